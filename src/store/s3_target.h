/*
 * Where a bucket is: "s3://bucket/prefix" or an access point's ARN, an endpoint and a region, turned into host, path
 * and key prefix. Pure.
 *
 *     s3://bucket                                                   on AWS: https://bucket.s3.REGION.amazonaws.com/KEY
 *     s3://bucket/some/prefix      endpoint http://ceph:7480        http://ceph:7480/bucket/some/prefix/KEY
 *     s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/name/prefix
 */
#ifndef ORLOP_STORE_S3_TARGET_H
#define ORLOP_STORE_S3_TARGET_H

#include "base/buf.h"
#include "base/err.h"

#define S3_URL_BYTES_MAX 1024
#define S3_HOST_BYTES_MAX 264 /* a host name, a colon, a port and the NUL */
#define S3_BUCKET_BYTES_MAX 256
#define S3_PREFIX_BYTES_MAX 256
#define S3_REGION_BYTES_MAX 64
#define S3_KEY_BYTES_MAX 1024 /* what S3 takes, the prefix included, without a NUL */
#define S3_REGION_DEFAULT "us-east-1"

enum s3_addressing {
    /* Path-style when an endpoint is named, or when TLS would not match a bucket with dots; else virtual. */
    S3_ADDRESSING_AUTO,
    S3_ADDRESSING_PATH,    /* http://endpoint/bucket/key */
    S3_ADDRESSING_VIRTUAL, /* http://bucket.endpoint/key */
};

/* NULL or "" means not given. */
struct s3_target_settings {
    const char *url;                 /* s3://… */
    const char *endpoint_url;        /* http(s)://host[:port][/path]; none: AWS */
    const char *public_endpoint_url; /* the same store as clients reach it, for presigned URLs; none: the endpoint */
    const char *region;              /* none: S3_REGION_DEFAULT (on AWS that is an error: a region must be known) */
    enum s3_addressing addressing;
};

struct s3_endpoint {
    bool tls;
    char host[S3_HOST_BYTES_MAX];     /* for the URL and the Host header: a default port is left out */
    char base_path[S3_URL_BYTES_MAX]; /* raw: "" or "/bucket" or "/path/bucket", without a slash at its end */
};

struct s3_target {
    struct s3_endpoint endpoint;
    struct s3_endpoint public_endpoint; /* for presigned URLs; the endpoint itself when no other was named */
    bool has_public_endpoint;           /* it was named */
    bool is_aws;                        /* no endpoint was named */
    char bucket[S3_BUCKET_BYTES_MAX];   /* or the access point's ARN */
    char prefix[S3_PREFIX_BYTES_MAX];   /* of every key: "" or "some/prefix/" */
    char region[S3_REGION_BYTES_MAX];
};

/* ERR_INVALID with a message that says what is wrong with which setting. */
must_check enum err_code s3_target_parse(const struct s3_target_settings *settings, struct s3_target *out,
                                         struct err *err);

/* Append the raw path of a key below the prefix; of the bucket itself when key is NULL. false: out's limit. */
bool s3_target_path(const struct s3_target *target, const struct s3_endpoint *endpoint, const char *key,
                    struct buf *out);

/*
 * Can clients anywhere be expected to reach this endpoint? No for loopback, private and link-local addresses, names
 * without a dot, and names ending in .local, .internal, .localhost, .svc or .cluster.local.
 */
bool s3_endpoint_is_public(const struct s3_endpoint *endpoint);

#endif
