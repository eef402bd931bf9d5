/*
 * Threads that send parts while their upload goes on filling the next, and remove what a commit leaves. Jobs run in
 * order of arrival.
 */
#ifndef ORLOP_STORE_S3_SENDER_H
#define ORLOP_STORE_S3_SENDER_H

struct s3_senders;

/* Embedded in what it works on; owned by whoever posts it until run() is called, which may free it. */
struct s3_job {
    struct s3_job *next;
    void (*run)(struct s3_job *job);
};

struct s3_senders *s3_senders_new(unsigned threads); /* NULL: no memory or no threads */
void s3_senders_free(struct s3_senders *senders);    /* after the last job ran; NULL is fine */
void s3_senders_post(struct s3_senders *senders, struct s3_job *job);

#endif
