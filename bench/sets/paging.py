"""paging: what the ways to virtualize memory differ in (bench/guest/paging_*.c, and items of the set kernel), in every mode."""
from lib import items
from lib.systems import TITLES

TITLE = "Memory virtualization"
NOTE = ("The same static binary everywhere (bench/guest/paging_items.c), on one processor. *touch-*: random reads of 128 MiB in small or large pages (*wide*: 256 MiB in small ones), and of 8000 pages each with a "
        "page table of its own. *auto* chooses between nested and shadow for each address space (docs/mmu.md, Auto) and is to be no more than 5% behind the better. "
        "*direct* and *Xen* run a paravirtualized kernel: on Trifold the cloud kernel that all others run, and as domain 0 of Debian's Xen 4.17, which QEMU TCG emulates a processor for, linux-image-amd64 (the cloud kernel has no console there).")
# The modes auto and direct, and Xen, beside the usual ones.
ALL = list(TITLES)
render, details, check_goals, draw = items.views("paging", TITLE, ALL)


def run(options):
    if not options.systems_given:
        options.systems = ALL
    return items.measure_driver("paging", options)
