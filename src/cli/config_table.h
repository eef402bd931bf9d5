/*
 * Every setting, in one table, from which the YAML parser, the flags, the environment variables, --help, `config show`
 * and docs/settings.md come:
 *
 *     SECTION(section, title)
 *     SETTING(section, key, type, default, min, max, choices, reload, prose)
 *
 * In YAML a setting is `key` below `section`, on the command line --section-key, in the environment ORLOP_SECTION_KEY.
 * type      TEXT, CHOICE, BOOL, NUMBER, BYTES or DURATION (see config.h for how each is written)
 * default   as a user would write it
 * min, max  of the number, the bytes or the milliseconds; of a text, its length in bytes
 * choices   "one|or|other" for CHOICE; for TEXT, what stands for it in help; else ""
 * reload    LIVE: taken over on SIGHUP; RESTART: only by a new start
 * prose     one line for people
 */
/* clang-format off */
#define KIB 1024ULL
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define SECONDS 1000ULL
#define MINUTES (60 * SECONDS)
#define HOURS (60 * MINUTES)
#define DAYS (24 * HOURS)

SECTION(http, "Serving clients")
SETTING(http, listen, TEXT, "127.0.0.1:5000", 0, 255, "ADDRESS:PORT", RESTART,
        "Address to serve clients on: ADDRESS:PORT, [V6]:PORT, or :PORT for all addresses; port 0 picks a "
        "free one.")
SETTING(http, tls_certificate, TEXT, "", 0, 4095, "FILE", RESTART,
        "PEM file with the server's certificate chain; empty serves plain HTTP.")
SETTING(http, tls_key, TEXT, "", 0, 4095, "FILE", RESTART,
        "PEM file with the certificate's private key.")
SETTING(http, network_threads, NUMBER, "0", 0, 64, "", RESTART,
        "Threads that move bytes between clients and the server; 0 means one a core, at most 4.")
SETTING(http, workers, NUMBER, "64", 1, 1024, "", RESTART,
        "Threads that run requests and may wait for the store.")
SETTING(http, connections_max, NUMBER, "0", 0, 1000000, "", RESTART,
        "Client connections open at once; more are refused. 0 means as many as the limit of open files "
        "allows, at most 20000.")
SETTING(http, connections_per_address_max, NUMBER, "0", 0, 1000000, "", RESTART,
        "Client connections from one address; 0 means no limit.")
SETTING(http, jobs_waiting_max, NUMBER, "4096", 1, 1000000, "", RESTART,
        "Requests waiting for a worker; more are answered 503 with Retry-After.")
SETTING(http, header_bytes_max, BYTES, "32KiB", 4 * KIB, 1 * MIB, "", RESTART,
        "Size of a request's line and headers together.")
SETTING(http, body_pipe_bytes, BYTES, "256KiB", 16 * KIB, 64 * MIB, "", RESTART,
        "Buffer between a client that uploads and the worker that stores; a full one slows the client. A download "
        "from an object store takes two.")
SETTING(http, buffered_bytes_max, BYTES, "64MiB", 8 * MIB, 64 * GIB, "", RESTART,
        "Manifests being received at once, all together; more wait.")
SETTING(http, header_timeout, DURATION, "30s", 100, 1 * HOURS, "", RESTART,
        "Time from a request's first byte to the end of its headers.")
SETTING(http, idle_timeout, DURATION, "120s", 100, 24 * HOURS, "", RESTART,
        "How long a connection without a request stays open.")
SETTING(http, body_timeout, DURATION, "60s", 100, 24 * HOURS, "", RESTART,
        "How long a body or an answer may stand still; also the time over which body_rate_min is measured.")
SETTING(http, body_rate_min, BYTES, "1KiB", 0, 1 * GIB, "", RESTART,
        "Bytes per second below which a request's body is too slow and answered 408; 0 turns this off.")
SETTING(http, linger, DURATION, "5s", 0, 10 * MINUTES, "", RESTART,
        "After an early answer: how long what the client still sends is read, so that it sees the answer.")
SETTING(http, drain, DURATION, "30s", 0, 24 * HOURS, "", RESTART,
        "On SIGTERM: how long running requests may take to end.")

SECTION(admin, "Health and metrics")
SETTING(admin, listen, TEXT, "127.0.0.1:5001", 0, 255, "ADDRESS:PORT", RESTART,
        "Address of /healthz, /readyz and /metrics; empty for none.")

SECTION(store, "Where data are kept")
SETTING(store, location, TEXT, "./data", 1, 1023, "DIR or s3://BUCKET[/PREFIX]", RESTART,
        "Directory of the store, made when it is missing, or a bucket (or access point ARN) of an S3-compatible "
        "object store.")

SECTION(s3, "An S3-compatible object store")
SETTING(s3, endpoint, TEXT, "", 0, 1023, "URL", RESTART,
        "Where the object store is; empty takes AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, else AWS itself.")
SETTING(s3, public_endpoint, TEXT, "", 0, 1023, "URL", RESTART,
        "The same store as clients reach it, for redirects; empty means the endpoint.")
SETTING(s3, region, TEXT, "", 0, 63, "REGION", RESTART,
        "Region of the bucket; empty takes AWS_REGION, AWS_DEFAULT_REGION or the profile's.")
SETTING(s3, profile, TEXT, "", 0, 255, "NAME", RESTART,
        "Profile of the AWS credentials and config files; empty takes AWS_PROFILE, else 'default'.")
SETTING(s3, addressing, CHOICE, "auto", 0, 0, "auto|path|virtual", RESTART,
        "How the bucket is named in requests; auto is path with an endpoint, virtual on AWS.")
SETTING(s3, ca_file, TEXT, "", 0, 1023, "FILE", RESTART,
        "PEM file of certificate authorities to trust; empty takes AWS_CA_BUNDLE, else the system's.")
SETTING(s3, redirect, CHOICE, "auto", 0, 0, "never|always|auto", LIVE,
        "Send blob GETs to the object store by a presigned URL; auto does so when clients anywhere can reach "
        "it by HTTPS.")
SETTING(s3, redirect_expires, DURATION, "20m", 1 * SECONDS, 7 * DAYS, "", LIVE,
        "How long such a URL may be used.")
SETTING(s3, connections_max, NUMBER, "64", 4, 512, "", RESTART,
        "Connections to the object store at once.")
SETTING(s3, part_memory_bytes_max, BYTES, "256MiB", 32 * MIB, 64 * GIB, "", RESTART,
        "Memory for parts of uploads, all together; when it is spent, uploads wait. A part is at most a quarter "
        "of it.")
SETTING(s3, part_bytes, BYTES, "0", 0, 5 * GIB, "", RESTART,
        "Length of every part but the last, for stores that want equal ones; 0 lets parts grow with the blob "
        "from 8 MiB.")
SETTING(s3, senders, NUMBER, "8", 1, 64, "", RESTART,
        "Threads that send parts while their uploads go on.")
SETTING(s3, checksum, CHOICE, "none", 0, 0, "none|crc32c|md5", RESTART,
        "Checksum to send with every body, for stores or networks that need more than TLS gives.")
SETTING(s3, single_writer, BOOL, "false", 0, 1, "", RESTART,
        "Promise that no other node writes to the bucket; then conditional writes are not asked for.")

SECTION(registry, "What is accepted")
SETTING(registry, cache_bytes_max, BYTES, "32MiB", 0, 64 * GIB, "", LIVE,
        "Memory for manifests, tags, references and, a quarter of it, referrers.")
SETTING(registry, check_references, BOOL, "true", 0, 1, "", LIVE,
        "Refuse manifests whose config or layers are not in the repository.")
SETTING(registry, sparse_indexes, BOOL, "false", 0, 1, "", LIVE,
        "Accept indexes some of whose manifests are not in the repository.")
SETTING(registry, deletes, BOOL, "true", 0, 1, "", LIVE,
        "Let clients delete manifests, tags and blobs; false answers 405.")

SECTION(uploads, "Interrupted uploads")
SETTING(uploads, idle, DURATION, "24h", 1 * SECONDS, 365 * DAYS, "", LIVE,
        "Upload sessions that nothing was sent to for so long are removed.")
SETTING(uploads, janitor_interval, DURATION, "10m", 100, 7 * DAYS, "", LIVE,
        "How often idle upload sessions are looked for.")

SECTION(auth, "Who may do what")
SETTING(auth, htpasswd, TEXT, "", 0, 4095, "FILE", RESTART,
        "File of users and bcrypt password hashes (htpasswd -B); empty lets everyone do everything. SIGHUP "
        "reads the file again.")
SETTING(auth, anonymous, CHOICE, "none", 0, 0, "none|pull", RESTART,
        "What clients without credentials may do when there is an htpasswd file.")

SECTION(log, "Log lines on stderr")
SETTING(log, level, CHOICE, "info", 0, 0, "debug|info|warn|error", LIVE,
        "Lowest level that is written.")
SETTING(log, format, CHOICE, "auto", 0, 0, "auto|text|json", RESTART,
        "auto writes text to a terminal and JSON otherwise.")
SETTING(log, access, BOOL, "true", 0, 1, "", RESTART,
        "Write a line for every request.")

#undef KIB
#undef MIB
#undef GIB
#undef SECONDS
#undef MINUTES
#undef HOURS
#undef DAYS
/* clang-format on */
