"""What is compared: native, Trifold in its paging modes, QEMU TCG with each processor model that is fair to it."""
import os
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("BUILD", "build"))
if not BUILD.is_absolute():
    BUILD = TOP / BUILD
GUESTS = TOP / "build/guests"
RESULTS = BUILD / "bench"
KERNELS = {"cloud": GUESTS / "vmlinuz", "amd64": GUESTS / "vmlinuz-amd64"}
QEMU = "qemu-system-x86_64"

# Names of systems in results, their titles, and the models that rounds take turns with.
TITLES = {"native": "native", "nested": "Trifold, nested", "shadow": "Trifold, shadow", "auto": "Trifold, auto", "direct": "Trifold, direct",
          "xen": "Xen in QEMU TCG", "qemu": "QEMU TCG"}
# Only the set paging runs these: auto is a mixture of the other two; direct runs the same kernel file paravirtualized; Xen runs linux-image-amd64 as its domain 0.
SYSTEMS = ["native", "nested", "shadow", "qemu"]
TRIFOLD = ["nested", "shadow"]
QEMU_MODELS = ["max,-erms,-fsrm,-pku,-pks", "EPYC"]
XEN_MODELS = ["qemu64"]
DEBUG_EXIT_1 = 3  # the status of a process whose guest ended with status 1: (1 << 1) | 1


def variants(system):
    return QEMU_MODELS if system == "qemu" else XEN_MODELS if system == "xen" else [""]


def choose_variant(system, round_number, known):
    """A system of several variants tries each once, and then goes on with the best. KNOWN: {variant: [seconds]}."""
    choices = variants(system)
    if round_number < len(choices):
        return choices[round_number]
    return min(known, key=lambda v: min(known[v]), default=choices[0])


MICROVM = "microvm,acpi=off,pit=on,pic=on,rtc=on"  # boots fastest of QEMU's machines; it has no more devices than Trifold


def command(system, variant, initrd, append="", memory="512M", kernel="cloud", extra=(), machine=MICROVM):
    """The command line that boots a guest on a system; machine: QEMU's."""
    if system == "xen":
        # By multiboot: the hypervisor is the kernel, and its modules are the domain's kernel with its command line, and the initramfs. The domain has
        # as much memory as the guests of the other systems.
        more = int(memory[:-1]) * {"M": 1, "G": 1024}[memory[-1]] + 512
        return [QEMU, "-accel", "tcg", "-cpu", variant, "-M", "pc", "-m", f"{more}M", "-nographic", "-no-reboot", "-net", "none",
                "-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-kernel", str(GUESTS / "xen"),
                "-append", f"console=com1 dom0_mem={memory},max:{memory} dom0_max_vcpus=1 loglvl=error guest_loglvl=none",
                "-initrd", f"{KERNELS['amd64']} {('console=hvc0 quiet panic=-1 ' + append).strip()},{initrd}", *extra]
    append = (f"console={'hvc0' if system == 'direct' else 'ttyS0'} quiet panic=-1 " + ("reboot=t " if system == "qemu" else "") + append).strip()
    image = ["-kernel" if system == "qemu" else "--kernel", str(KERNELS[kernel]), "-initrd" if system == "qemu" else "--initrd", str(initrd)]
    if system == "qemu":
        return [QEMU, "-accel", "tcg", "-cpu", variant, "-M", machine, "-m", memory, "-nographic", "-no-reboot",
                "-device", "isa-debug-exit,iobase=0xf4,iosize=1", *image, "-append", append, *extra]
    return [str(BUILD / "trifold"), "run", "-m", memory, "--debug-exit", "--paging", system, *image, "--append", append, *extra]
