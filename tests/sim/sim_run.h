/*
 * The command line of a simulation: run a test for many seeds, on all cores.
 *
 *     PROGRAM                  the default seeds
 *     PROGRAM --seeds 1-500    these
 *     PROGRAM --seed 7 --trace one, with everything that happens
 *
 * Each core has a process that takes one seed after the other; a failing seed ends its process, is printed with how
 * to replay it, and the next process goes on behind it. Now and then a seed is run twice: its trace must be the same.
 */
#ifndef ORLOP_TESTS_SIM_RUN_H
#define ORLOP_TESTS_SIM_RUN_H

#include <stdbool.h>
#include <stdint.h>

#define SIM_COUNTERS_MAX 64

struct sim_test {
    const char *name;                 /* of what is tested, in a word: "schedules" */
    uint64_t seeds;                   /* run by default: 1 … seeds */
    void (*run)(void);                /* one run, between sim_begin and sim_settle; fails by sim_fail */
    const char *const *counter_names; /* ended by NULL */
};

/* Add to one of the test's counters, which are summed over all runs and printed in the end. */
void sim_count(unsigned counter, uint64_t n);

/* The program's exit status. */
int sim_run_main(const struct sim_test *test, int argc, char **argv);

/* Run seeds first … last in this process's children; returns how many failed. quiet: their messages are not shown. */
uint64_t sim_run_seeds(const struct sim_test *test, uint64_t first, uint64_t last, bool quiet);

#endif
