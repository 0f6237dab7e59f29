/*
 * exit.c - a program that does nothing: for the items that start programs. Ends with the status that its argument names.
 */
#include <stdlib.h>

int main(int argc, char **argv)
{
	return argc > 1 ? atoi(argv[1]) : 0;
}
