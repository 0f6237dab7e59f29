/* kvmclock.c - the KVM paravirtual clock (kvmclock.h). */
#include "cpu/kvmclock.h"

#include <errno.h>
#include <stdlib.h>
#include "base/clock.h"
#include "cpu/vcpu.h"

struct __attribute__((packed)) time_page {
	uint32_t version, pad;
	uint64_t tsc_timestamp, system_time;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad2[2];
};
struct __attribute__((packed)) wall_page { uint32_t version, sec, nsec; };

#define TSC_STABLE 1u
#define NS_PER_S 1000000000ull

int kvmclock_create(struct kvmclock **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void kvmclock_destroy(struct kvmclock *k) { free(k); }

void kvmclock_scale(uint64_t khz, uint32_t *mul, int8_t *shift)
{
	uint64_t hz = khz * 1000;
	int8_t s = 0;

	/* Normalize so that the multiplier NS/hz * 2^32 has its top bit set. */
	while (hz > 2 * NS_PER_S) {
		hz >>= 1;
		s--;
	}
	while (hz <= NS_PER_S) {
		hz <<= 1;
		s++;
	}
	*mul = (uint32_t)((NS_PER_S << 32) / hz);
	*shift = s;
}

static uint64_t ticks_to_ns(const struct kvmclock *k, uint64_t ticks)
{
	ticks = k->shift < 0 ? ticks >> -k->shift : ticks << k->shift;
	return (uint64_t)(((unsigned __int128)ticks * k->mul) >> 32);
}

/* A page outside RAM is the guest's mistake and has no effect. */
static void write_guest(struct vcpu *v, uint64_t gpa_at, const void *buf, size_t len)
{
	(void)memory_write(v->memory, gpa(gpa_at), buf, len);
	mmu_frames_changed(&v->mmu);
}

static void set_scale(struct kvmclock *k)
{
	if (!k->mul)
		kvmclock_scale(clock_tsc_khz(), &k->mul, &k->shift);
}

static void fill_time_cold(void *arg)
{
	struct vcpu *v = arg;
	struct kvmclock *k = v->kvmclock;
	struct time_page page = { 0 };

	set_scale(k);
	k->version += 2;
	page.version = k->version;
	page.tsc_timestamp = clock_tsc() + v->tsc_offset;
	page.system_time = ticks_to_ns(k, page.tsc_timestamp);
	page.mul = k->mul;
	page.shift = k->shift;
	page.flags = TSC_STABLE;
	write_guest(v, k->system_time & ~1ull, &page, sizeof(page));
}

static void fill_wall_cold(void *arg)
{
	struct vcpu *v = arg;
	struct kvmclock *k = v->kvmclock;
	struct wall_page page = { 0 };
	uint64_t boot;

	set_scale(k);
	boot = clock_realtime_ns() - ticks_to_ns(k, clock_tsc() + v->tsc_offset);
	k->version += 2;
	page.version = k->version;
	page.sec = (uint32_t)(boot / NS_PER_S);
	page.nsec = (uint32_t)(boot % NS_PER_S);
	write_guest(v, k->wall_clock, &page, sizeof(page));
}

bool kvmclock_read_system_time(struct vcpu *v, uint64_t *value)
{
	*value = v->kvmclock->system_time;
	return true;
}

bool kvmclock_write_system_time(struct vcpu *v, uint64_t value)
{
	v->kvmclock->system_time = value;
	if (value & 1)
		fpu_call_cold(v, fill_time_cold, v);
	return true;
}

bool kvmclock_read_wall_clock(struct vcpu *v, uint64_t *value)
{
	*value = v->kvmclock->wall_clock;
	return true;
}

bool kvmclock_write_wall_clock(struct vcpu *v, uint64_t value)
{
	v->kvmclock->wall_clock = value;
	fpu_call_cold(v, fill_wall_cold, v);
	return true;
}
