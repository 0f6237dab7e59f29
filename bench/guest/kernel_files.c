/*
 * kernel_files.c - files and directories on a tmpfs.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "item.h"
#include "kernel.h"

static const char *path_of(const char *name, int number)
{
	static char path[200];
	snprintf(path, sizeof path, "%s/bench-%s-%d", work_dir, name, number);
	return path;
}

int kernel_open_nameless(void)
{
	const char *path = path_of("nameless", 0);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		fail(path);
	unlink(path);
	return fd;
}

static void make_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, "text\n", 5) != 5)
		fail(path);
	close(fd);
}

uint64_t kernel_open(unsigned turns)
{
	const char *path = path_of("open", 0);
	uint64_t sum = 0;
	make_file(path);
	for (unsigned t = 0; t < turns; t++) {
		char text[16];
		int fd = open(path, O_RDONLY);
		if (fd < 0)
			fail(path);
		sum += (uint64_t)read(fd, text, sizeof text);
		close(fd);
	}
	unlink(path);
	return sum;
}

uint64_t kernel_stat(unsigned turns)
{
	const char *path = path_of("stat", 0);
	uint64_t sum = 0;
	make_file(path);
	for (unsigned t = 0; t < turns; t++) {
		struct stat st;
		if (stat(path, &st))
			fail(path);
		sum += (uint64_t)st.st_size;
	}
	unlink(path);
	return sum;
}

uint64_t kernel_create(unsigned turns)
{
	for (unsigned t = 0; t < turns; t++) {
		const char *path = path_of("create", (int)(t % 8));
		make_file(path);
		if (unlink(path))
			fail(path);
	}
	return turns;
}

/* A directory of 200 entries, read from its beginning. */
uint64_t kernel_list(unsigned turns)
{
	const char *dir = path_of("list", 0);
	char path[256];
	uint64_t sum = 0;
	if (mkdir(dir, 0700))
		fail(dir);
	for (int i = 0; i < 200; i++) {
		snprintf(path, sizeof path, "%s/%d", dir, i);
		make_file(path);
	}
	for (unsigned t = 0; t < turns; t++) {
		DIR *d = opendir(dir);
		if (!d)
			fail(dir);
		while (readdir(d))
			sum++;
		closedir(d);
	}
	for (int i = 0; i < 200; i++) {
		snprintf(path, sizeof path, "%s/%d", dir, i);
		unlink(path);
	}
	rmdir(dir);
	return sum;
}

/* 256 KiB written and read back, 16 KiB at a time. */
uint64_t kernel_file_io(unsigned turns)
{
	static char buffer[16384];
	uint64_t sum = 0;
	int fd = kernel_open_nameless();
	for (unsigned t = 0; t < turns; t++) {
		lseek(fd, 0, SEEK_SET);
		memset(buffer, (int)t, sizeof buffer);
		for (int i = 0; i < 16; i++)
			if (write(fd, buffer, sizeof buffer) != sizeof buffer)
				fail("write");
		lseek(fd, 0, SEEK_SET);
		for (int i = 0; i < 16; i++)
			if (read(fd, buffer, sizeof buffer) != sizeof buffer)
				fail("read");
		sum += (uint8_t)buffer[t % sizeof buffer];
	}
	close(fd);
	return sum;
}
