/*
 * memory.c - pages and page tables. Physical pages come from 32 MiB up and are never given back.
 */
#include "lib_internal.h"

static uint64_t next_page = 32ul << 20;
static uint64_t kernel_pdpt;

uint64_t alloc_pages(unsigned n, uint64_t align)
{
	uint64_t at = (next_page + align - 1) & -align;
	next_page = at + n * PAGE;
	memset((void *)at, 0, n * PAGE);
	return at;
}
uint64_t alloc_page(void) { return alloc_pages(1, PAGE); }

uint64_t *entry_at(uint64_t root, uint64_t va, unsigned level)
{
	uint64_t *table = (uint64_t *)(root & PTE_ADDRESS);
	for (unsigned l = 4;; l--) {
		uint64_t *e = &table[va >> (12 + 9 * (l - 1)) & 511];
		if (l == level)
			return e;
		if (!(*e & PTE_P))
			*e = alloc_page() | PTE_P | PTE_W | PTE_U;
		table = (uint64_t *)(*e & PTE_ADDRESS);
	}
}
uint64_t *entry_of(uint64_t va, unsigned level) { return entry_at(READ_CR(3), va, level); }

void map_page(uint64_t va, uint64_t pa, uint64_t flags)
{
	*entry_of(va, 1) = pa | flags;
	invlpg(va);
}
void unmap_page(uint64_t va)
{
	*entry_of(va, 1) = 0;
	invlpg(va);
}

uint64_t new_root(void)
{
	uint64_t root = alloc_page();
	*entry_at(root, 0, 4) = kernel_pdpt | PTE_P | PTE_W;
	for (uint64_t va = (uint64_t)image_start; va < (uint64_t)image_end; va += PAGE)
		*entry_at(root, USER_BASE + va, 1) = va | PTE_P | PTE_W | PTE_U;
	return root;
}

void memory_start(void)
{
	/* USER_BASE lies in the same top entry as the identity map, which all roots share; user-ness is decided below it. */
	kernel_pdpt = alloc_page() | PTE_U;
	for (unsigned g = 0; g < 4; g++) {
		uint64_t *pd = (uint64_t *)alloc_page();
		((uint64_t *)(kernel_pdpt & PTE_ADDRESS))[g] = (uint64_t)pd | PTE_P | PTE_W;
		for (uint64_t i = 0; i < 512; i++)
			pd[i] = (g * 512 + i) << 21 | PTE_P | PTE_W | PTE_PS;
	}
	WRITE_CR(3, new_root());
}
