"""debroot: programs from Debian packages, with the libraries they load, laid out for an initramfs. Nothing is installed (tools/fetch-deb)."""
import os, shutil, subprocess, sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
LOADER, LIBRARIES = "lib64", "lib/x86_64-linux-gnu"


def fetch(cache, packages, root):
    """Unpacks the packages over each other into the directory root."""
    for package in packages:
        subprocess.run([TOOLS / "fetch-deb", cache, package, root], check=True)


def needed(path):
    """Names of the libraries that a program or library says it needs."""
    dynamic = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    return [line.split("[")[1].split("]")[0] for line in dynamic.splitlines() if "(NEEDED)" in line]


def lay_out(root, programs, out, loaded=()):
    """Copies programs, {path under root: path under out}, and all libraries that they need, from root to out, which is made anew. loaded: names of
    libraries that they do not say they need, but load."""
    directories = [root / LIBRARIES, root / "usr" / LIBRARIES, root / LOADER]
    shutil.rmtree(out, ignore_errors=True)
    pending, done = [], set()
    for where in LOADER, LIBRARIES:
        (out / where).mkdir(parents=True)
    for program, place in programs.items():
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / program, out / place)
        pending.append(root / program)
    names = list(loaded)
    while names or pending:
        for name in names or needed(pending.pop()):
            if name in done:
                continue
            done.add(name)
            found = [d / name for d in directories if (d / name).is_symlink() or (d / name).exists()]
            if not found:
                sys.exit(f"{Path(sys.argv[0]).name}: no package of the list holds {name}")
            real = found[0]
            if real.is_symlink() and os.readlink(real).startswith("/"):
                real = root / os.readlink(real)[1:]
            target = out / (LOADER if name.startswith("ld-linux") else LIBRARIES) / name
            shutil.copy(os.path.realpath(real), target)
            pending.append(target)
        names = []
