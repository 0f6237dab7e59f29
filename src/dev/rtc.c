/*
 * rtc.c - the clock. Each register is computed when it is read; "update in progress" is never seen, since time
 * is read again by whoever finds the seconds changed.
 */
#include "dev/rtc.h"

#include <time.h>

enum {
	RTC_SECONDS = 0, RTC_SECONDS_ALARM, RTC_MINUTES, RTC_MINUTES_ALARM, RTC_HOURS, RTC_HOURS_ALARM, RTC_WEEKDAY, RTC_DAY, RTC_MONTH,
	RTC_YEAR, RTC_A, RTC_B, RTC_C, RTC_D, RTC_CENTURY = 0x32,
};
enum { A_DEFAULT = 0x26, A_WRITABLE = 0x7f, B_24H = 2, B_BINARY = 4, B_WRITABLE = 0x8f, D_VALID = 0x80, HOURS_PM = 0x80 };

static uint8_t rtc_number(const struct rtc *rtc, int v)
{
	return (uint8_t)(rtc->reg_b & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static uint8_t rtc_hours(const struct rtc *rtc, int hour)
{
	if (rtc->reg_b & B_24H)
		return rtc_number(rtc, hour);
	return rtc_number(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOURS_PM : 0);
}

static uint8_t rtc_register(const struct rtc *rtc, unsigned index)
{
	const time_t now = (time_t)(rtc->now_ns() / 1000000000u);
	struct tm tm;

	gmtime_r(&now, &tm);
	switch (index) {
	case RTC_SECONDS: return rtc_number(rtc, tm.tm_sec);
	case RTC_MINUTES: return rtc_number(rtc, tm.tm_min);
	case RTC_HOURS: return rtc_hours(rtc, tm.tm_hour);
	case RTC_WEEKDAY: return rtc_number(rtc, tm.tm_wday + 1);
	case RTC_DAY: return rtc_number(rtc, tm.tm_mday);
	case RTC_MONTH: return rtc_number(rtc, tm.tm_mon + 1);
	case RTC_YEAR: return rtc_number(rtc, tm.tm_year % 100);
	case RTC_CENTURY: return rtc_number(rtc, 19 + tm.tm_year / 100);
	case RTC_A: return rtc->reg_a;
	case RTC_B: return rtc->reg_b;
	case RTC_C: return 0;
	case RTC_D: return D_VALID;
	}
	return rtc->ram[index];
}

static uint64_t rtc_read(void *dev, uint64_t offset, unsigned size)
{
	const struct rtc *rtc = dev;

	return size == 1 && offset == 1 ? rtc_register(rtc, rtc->index) : ~0ull;
}

static void rtc_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
	struct rtc *rtc = dev;

	if (size != 1)
		return;
	if (!offset) {
		rtc->index = value & 0x7f;	/* bit 7 masks NMI: there is none */
		return;
	}
	switch (rtc->index) {
	case RTC_A: rtc->reg_a = value & A_WRITABLE; break;
	case RTC_B: rtc->reg_b = value & B_WRITABLE; break;
	default: rtc->ram[rtc->index] = (uint8_t)value; break;	/* for time registers, never read back */
	}
}

int rtc_init(struct rtc *rtc, struct bus *bus, uint64_t (*now_ns)(void))
{
	const struct bus_range range = { .base = RTC_PORT, .len = 2, .read = rtc_read, .write = rtc_write, .dev = rtc, .name = "rtc" };

	*rtc = (struct rtc){ .reg_a = A_DEFAULT, .reg_b = B_24H, .now_ns = now_ns };
	return bus_claim(bus, BUS_PORT, &range);
}
