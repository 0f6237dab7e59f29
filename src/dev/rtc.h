/*
 * rtc.h - an MC146818 clock at ports 70h/71h that shows the host's time (UTC) and cannot be set: writes to the time
 * are ignored, the other 114 bytes are memory. No alarm, no periodic interrupt.
 * Source: MC146818A data sheet, "Address Map" and "Registers".
 */
#ifndef DEV_RTC_H
#define DEV_RTC_H

#include "mem/bus.h"

#define RTC_PORT 0x70u
struct rtc {
	uint8_t index, reg_a, reg_b;
	uint8_t ram[128];
	uint64_t (*now_ns)(void);	/* host time since the epoch */
};

int rtc_init(struct rtc *rtc, struct bus *bus, uint64_t (*now_ns)(void)); /* 0 or -errno */

#endif
