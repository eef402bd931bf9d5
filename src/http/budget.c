#include "http/budget.h"

#include <assert.h>
#include <stddef.h>

void budget_init(struct budget *budget, uint64_t bytes_max)
{
    pthread_mutex_init(&budget->lock, NULL);
    budget->bytes_max = bytes_max;
    budget->bytes_free = bytes_max;
    budget->first = NULL;
    budget->end = &budget->first;
}

void budget_finish(struct budget *budget)
{
    assert(!budget->first && budget->bytes_free == budget->bytes_max);
    pthread_mutex_destroy(&budget->lock);
}

enum budget_answer budget_take(struct budget *budget, struct budget_ticket *ticket, uint64_t bytes)
{
    enum budget_answer answer = BUDGET_GRANTED;

    assert(ticket->bytes == 0);
    if (bytes > budget->bytes_max)
        return BUDGET_NEVER;
    pthread_mutex_lock(&budget->lock);
    if (!budget->first && bytes <= budget->bytes_free) {
        budget->bytes_free -= bytes;
        ticket->bytes = bytes;
    } else {
        ticket->wanted = bytes;
        ticket->next = NULL;
        *budget->end = ticket;
        budget->end = &ticket->next;
        answer = BUDGET_WAIT;
    }
    pthread_mutex_unlock(&budget->lock);
    return answer;
}

/* The first in line, when there is enough for it now. */
static struct budget_ticket *budget_next(struct budget *budget)
{
    pthread_mutex_lock(&budget->lock);
    struct budget_ticket *ticket = budget->first;
    if (ticket && ticket->wanted <= budget->bytes_free) {
        budget->first = ticket->next;
        if (!budget->first)
            budget->end = &budget->first;
        budget->bytes_free -= ticket->wanted;
        ticket->bytes = ticket->wanted;
    } else {
        ticket = NULL;
    }
    pthread_mutex_unlock(&budget->lock);
    return ticket;
}

void budget_give_back(struct budget *budget, struct budget_ticket *ticket)
{
    if (ticket->bytes == 0)
        return;
    pthread_mutex_lock(&budget->lock);
    budget->bytes_free += ticket->bytes;
    ticket->bytes = 0;
    pthread_mutex_unlock(&budget->lock);
    for (struct budget_ticket *next = budget_next(budget); next; next = budget_next(budget))
        next->granted(next);
}
