/*
 * Bytes of memory that requests may hold together; who finds none left waits in line (FIFO).
 *
 * Threads: any. granted() is called with the budget unlocked, on the thread that gave bytes back.
 */
#ifndef ORLOP_HTTP_BUDGET_H
#define ORLOP_HTTP_BUDGET_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct budget_ticket {
    uint64_t bytes; /* held; 0: none */
    uint64_t wanted;
    struct budget_ticket *next;
    void (*granted)(struct budget_ticket *ticket);
};

struct budget {
    pthread_mutex_t lock;
    uint64_t bytes_max;
    uint64_t bytes_free;
    struct budget_ticket *first;
    struct budget_ticket **end;
};

enum budget_answer {
    BUDGET_GRANTED,
    BUDGET_WAIT /* granted() will be called */,
    BUDGET_NEVER /* more than there is */
};

void budget_init(struct budget *budget, uint64_t bytes_max);
void budget_finish(struct budget *budget);
enum budget_answer budget_take(struct budget *budget, struct budget_ticket *ticket, uint64_t bytes);
void budget_give_back(struct budget *budget, struct budget_ticket *ticket);

#endif
