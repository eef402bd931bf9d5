/*
 * Clients that ask a registry for what production registries are asked for, for the benchmarks.
 *
 *     traffic PORT CLIENTS SECONDS SEED FILE
 *
 * CLIENTS threads with a connection each go on for SECONDS; what each does next is drawn by lot. FILE tells what there
 * is to do, a line each:
 *
 *     share OPERATION PERCENT                        of all that is done
 *     image REPOSITORY TAG DIGEST MANIFEST_FILE      the registry has it
 *     layer REPOSITORY DIGEST LAYER_FILE             the registry has it
 *     push BYTES                                     a size of layers that are pushed; no two of them are alike
 *
 * On stdout comes a line for each answer: "OPERATION MICROSECONDS". Every answer is looked at, to the last byte. The
 * first wrong one ends the program with status 1; stderr says what it was.
 */
#define _GNU_SOURCE
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    entries_max = 256, // images, layers, sizes: of each
    clients_max = 256,
    seconds_max = 3600,
    samples_max = 1 << 20, // of a client; it stops there
    text_bytes = 2048,     // a URL, a header's value
    ending_bytes = 64,     // by which pushed layers differ
    layer_bytes_max = 64 << 20,
    buffer_bytes = 512 << 10, // libcurl's, each way
    digest_text_bytes = sizeof "sha256:" + 64,
    timeout_s = 120,
};

enum operation { MANIFEST_GET, MANIFEST_HEAD, BLOB_GET, BLOB_PUSH, MANIFEST_PUT, OPERATIONS };

static const char *const operation_names[OPERATIONS] = {"manifest-get", "manifest-head", "blob-get", "blob-push",
                                                        "manifest-put"};

static const char manifest_type[] = "application/vnd.oci.image.manifest.v1+json";

struct bytes {
    const uint8_t *at;
    size_t size;
};

struct image {
    char repository[128], tag[128], digest[digest_text_bytes];
    struct bytes manifest;
};

struct layer {
    char repository[128], digest[digest_text_bytes];
    struct bytes content;
};

/* A layer to push: the beginning of pushed_bytes, then an ending of its own. */
struct size {
    size_t bytes;
    EVP_MD_CTX *hashed; // all but the ending
};

static unsigned port, percent[OPERATIONS];
static struct image images[entries_max];
static struct layer layers[entries_max];
static struct size sizes[entries_max];
static unsigned image_count, layer_count, size_count;
static uint8_t *pushed_bytes;
static double end_s;

struct sample {
    enum operation operation;
    unsigned microseconds;
};

struct client {
    pthread_t thread;
    CURL *curl;
    uint64_t lot;
    char location[text_bytes], digest[text_bytes]; // of the answer
    struct bytes expected;                         // what the answer's body should be; see check_body()
    size_t received;
    char received_text[200]; // its beginning, for messages
    bool equal;
    struct bytes sending[2]; // one after the other
    struct sample *samples;
    unsigned sample_count;
};

_Noreturn static void fail(const char *format, ...)
{
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&once); // and never unlocked: the first one speaks
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    _Exit(1);
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

/* xorshift64*: quick, and the same for the same seed. */
static uint64_t draw(struct client *client)
{
    client->lot ^= client->lot >> 12;
    client->lot ^= client->lot << 25;
    client->lot ^= client->lot >> 27;
    return client->lot * 0x2545F4914F6CDD1D;
}

static unsigned draw_below(struct client *client, unsigned end)
{
    return (unsigned) ((draw(client) >> 33) % end);
}

// ---- one request ----

static size_t take_header(char *line, size_t size, size_t count, void *context)
{
    struct client *client = context;
    size_t length = size * count;
    static const char location[] = "Location:", digest[] = "Docker-Content-Digest:";
    char *into = NULL;
    size_t skip = 0;
    if (length > sizeof location && strncasecmp(line, location, sizeof location - 1) == 0)
        into = client->location, skip = sizeof location - 1;
    else if (length > sizeof digest && strncasecmp(line, digest, sizeof digest - 1) == 0)
        into = client->digest, skip = sizeof digest - 1;
    if (!into)
        return length;
    while (skip < length && line[skip] == ' ')
        skip++;
    size_t end = length;
    while (end > skip && (line[end - 1] == '\r' || line[end - 1] == '\n'))
        end--;
    if (end - skip >= text_bytes)
        fail("a header of %zu bytes", length);
    memcpy(into, line + skip, end - skip);
    into[end - skip] = '\0';
    return length;
}

static size_t take_body(char *data, size_t size, size_t count, void *context)
{
    struct client *client = context;
    size_t length = size * count;
    if (client->received < sizeof client->received_text - 1) {
        size_t room = sizeof client->received_text - 1 - client->received;
        memcpy(client->received_text + client->received, data, length < room ? length : room);
    }
    const struct bytes *expected = &client->expected;
    client->equal = client->equal && client->received + length <= expected->size &&
                    memcmp(expected->at + client->received, data, length) == 0;
    client->received += length;
    return length;
}

static size_t give_body(char *buffer, size_t size, size_t count, void *context)
{
    struct client *client = context;
    size_t room = size * count, given = 0;
    for (unsigned number = 0; number < 2; number++) {
        struct bytes *from = &client->sending[number];
        size_t length = from->size < room - given ? from->size : room - given;
        if (length)
            memcpy(buffer + given, from->at, length);
        from->at += length;
        from->size -= length;
        given += length;
    }
    return given;
}

/* Everything of the last request is forgotten, but for the connection. */
static void prepare(struct client *client, const char *url)
{
    CURL *curl = client->curl;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long) timeout_s);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, (long) buffer_bytes);
    curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, (long) buffer_bytes);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, client);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, client);
    client->location[0] = client->digest[0] = '\0';
    client->expected = (struct bytes){0};
    client->received = 0;
    memset(client->received_text, 0, sizeof client->received_text);
    client->equal = true;
}

static void prepare_put(struct client *client, const char *url, struct bytes first, struct bytes second)
{
    prepare(client, url);
    client->sending[0] = first;
    client->sending[1] = second;
    curl_easy_setopt(client->curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(client->curl, CURLOPT_READFUNCTION, give_body);
    curl_easy_setopt(client->curl, CURLOPT_READDATA, client);
    curl_easy_setopt(client->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t) (first.size + second.size));
}

/* Makes the request with a header of its own, and expects that status. The seconds it took. */
static double perform(struct client *client, const char *what, long status, const char *header)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    headers = curl_slist_append(headers, header);
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    double begin_s = now_s();
    CURLcode code = curl_easy_perform(client->curl);
    double took_s = now_s() - begin_s;
    curl_slist_free_all(headers);
    long answered = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &answered);
    if (code != CURLE_OK)
        fail("%s: %s", what, curl_easy_strerror(code));
    if (answered != status)
        fail("%s: %ld %s", what, answered, client->received_text);
    return took_s;
}

static void check_digest(const struct client *client, const char *what, const char *digest)
{
    if (strcmp(client->digest, digest) != 0)
        fail("%s: Docker-Content-Digest: %s, it is %s", what, client->digest, digest);
}

static void check_body(const struct client *client, const char *what)
{
    if (!client->equal || client->received != client->expected.size)
        fail("%s: %zu bytes, others than were pushed", what, client->received);
}

// ---- the operations ----

static double read_manifest(struct client *client, bool head)
{
    const struct image *image = &images[draw_below(client, image_count)];
    const char *what = head ? "HEAD of a manifest" : "GET of a manifest";
    char url[text_bytes], accept[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v2/%s/manifests/%s", port, image->repository,
             draw_below(client, 2) ? image->tag : image->digest);
    snprintf(accept, sizeof accept, "Accept: %s", manifest_type);
    prepare(client, url);
    client->expected = image->manifest;
    if (head)
        curl_easy_setopt(client->curl, CURLOPT_NOBODY, 1L);
    double took_s = perform(client, what, 200, accept);
    check_digest(client, what, image->digest);
    if (!head)
        check_body(client, what);
    return took_s;
}

static double read_blob(struct client *client)
{
    const struct layer *layer = &layers[draw_below(client, layer_count)];
    char url[text_bytes];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v2/%s/blobs/%s", port, layer->repository, layer->digest);
    prepare(client, url);
    client->expected = layer->content;
    double took_s = perform(client, "GET of a blob", 200, "Accept: */*");
    check_body(client, "GET of a blob");
    return took_s;
}

static void digest_of(const struct size *size, const uint8_t *ending, char text[digest_text_bytes])
{
    uint8_t sum[32];
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    if (!hash || !EVP_MD_CTX_copy_ex(hash, size->hashed) || !EVP_DigestUpdate(hash, ending, ending_bytes) ||
        !EVP_DigestFinal_ex(hash, sum, NULL))
        fail("SHA-256 is not to be had");
    EVP_MD_CTX_free(hash);
    int at = snprintf(text, digest_text_bytes, "sha256:");
    for (unsigned number = 0; number < sizeof sum; number++)
        at += snprintf(text + at, (size_t) (digest_text_bytes - at), "%02x", sum[number]);
}

/* POST, then one PUT. */
static double push_blob(struct client *client)
{
    const struct size *size = &sizes[draw_below(client, size_count)];
    uint8_t ending[ending_bytes];
    for (unsigned at = 0; at < sizeof ending; at += sizeof(uint64_t)) {
        uint64_t some = draw(client);
        memcpy(ending + at, &some, sizeof some);
    }
    char digest[digest_text_bytes], url[2 * text_bytes];
    digest_of(size, ending, digest);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v2/%s/blobs/uploads/", port,
             images[draw_below(client, image_count)].repository);
    prepare(client, url);
    curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, "");
    double took_s = perform(client, "POST of an upload", 202, "Content-Type:");

    const char *location = client->location;
    char root[32] = "";
    if (location[0] == '/')
        snprintf(root, sizeof root, "http://127.0.0.1:%u", port);
    snprintf(url, sizeof url, "%s%s%cdigest=%s", root, location, strchr(location, '?') ? '&' : '?', digest);
    prepare_put(client, url, (struct bytes){pushed_bytes, size->bytes - sizeof ending},
                (struct bytes){ending, sizeof ending});
    took_s += perform(client, "PUT of a blob", 201, "Content-Type: application/octet-stream");
    check_digest(client, "PUT of a blob", digest);
    return took_s;
}

static double put_manifest(struct client *client)
{
    const struct image *image = &images[draw_below(client, image_count)];
    char url[text_bytes], type[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v2/%s/manifests/t%u", port, image->repository,
             draw_below(client, 100));
    snprintf(type, sizeof type, "Content-Type: %s", manifest_type);
    prepare_put(client, url, image->manifest, (struct bytes){0});
    double took_s = perform(client, "PUT of a manifest", 201, type);
    check_digest(client, "PUT of a manifest", image->digest);
    return took_s;
}

static double operate(struct client *client, enum operation operation)
{
    switch (operation) {
    case MANIFEST_GET:
        return read_manifest(client, false);
    case MANIFEST_HEAD:
        return read_manifest(client, true);
    case BLOB_GET:
        return read_blob(client);
    case BLOB_PUSH:
        return push_blob(client);
    default:
        return put_manifest(client);
    }
}

static void *run_client(void *argument)
{
    struct client *client = argument;
    while (now_s() < end_s && client->sample_count < samples_max) {
        unsigned lot = draw_below(client, 100), operation = 0;
        while (lot >= percent[operation])
            lot -= percent[operation++];
        double took_s = operate(client, operation);
        client->samples[client->sample_count++] = (struct sample){operation, (unsigned) (took_s * 1e6)};
    }
    return NULL;
}

// ---- what there is to do ----

static struct bytes map_file(const char *path)
{
    struct stat about;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &about) != 0)
        fail("%s: %s", path, strerror(errno));
    if (about.st_size == 0)
        fail("%s: it is empty", path);
    void *at = mmap(NULL, (size_t) about.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
    if (at == MAP_FAILED)
        fail("%s: %s", path, strerror(errno));
    close(file);
    return (struct bytes){at, (size_t) about.st_size};
}

static void add_share(const char *name, unsigned share)
{
    for (unsigned operation = 0; operation < OPERATIONS; operation++)
        if (strcmp(operation_names[operation], name) == 0)
            percent[operation] = share;
}

static void add_size(size_t bytes)
{
    struct size *size = &sizes[size_count++];
    size->bytes = bytes < ending_bytes + 1 ? ending_bytes + 1 : bytes;
    size->hashed = EVP_MD_CTX_new();
    if (size->bytes > layer_bytes_max)
        fail("push %zu: at most %d bytes", bytes, layer_bytes_max);
    if (!size->hashed || !EVP_DigestInit_ex(size->hashed, EVP_sha256(), NULL) ||
        !EVP_DigestUpdate(size->hashed, pushed_bytes, size->bytes - ending_bytes))
        fail("SHA-256 is not to be had");
}

static void read_file(const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file)
        fail("%s: %s", path, strerror(errno));
    char line[4 * text_bytes], from[text_bytes], name[32];
    for (unsigned number = 1; fgets(line, sizeof line, file); number++) {
        if (image_count == entries_max || layer_count == entries_max || size_count == entries_max)
            fail("%s:%u: at most %d of each are taken", path, number, entries_max);
        struct image *image = &images[image_count];
        struct layer *layer = &layers[layer_count];
        size_t bytes;
        unsigned share;
        if (sscanf(line, "share %31s %u", name, &share) == 2)
            add_share(name, share);
        else if (sscanf(line, "image %127s %127s %71s %2047s", image->repository, image->tag, image->digest, from) == 4)
            images[image_count++].manifest = map_file(from);
        else if (sscanf(line, "layer %127s %71s %2047s", layer->repository, layer->digest, from) == 3)
            layers[layer_count++].content = map_file(from);
        else if (sscanf(line, "push %zu", &bytes) == 1)
            add_size(bytes);
        else
            fail("%s:%u: not understood", path, number);
    }
    fclose(file);
    unsigned sum = 0;
    for (unsigned operation = 0; operation < OPERATIONS; operation++)
        sum += percent[operation];
    if (sum != 100 || !image_count || !layer_count || !size_count)
        fail("%s: %u images, %u layers, %u sizes, shares of %u %%: some of each, and 100 %%, are needed", path,
             image_count, layer_count, size_count, sum);
}

static void make_pushed_bytes(void)
{
    pushed_bytes = malloc(layer_bytes_max);
    if (!pushed_bytes)
        fail("no memory");
    enum { random_bytes = 1 << 20 };                  // repeated
    for (size_t at = 0; at < random_bytes; at += 256) // getrandom(2) gives so many at once
        if (getrandom(pushed_bytes + at, 256, 0) != 256)
            fail("getrandom: %s", strerror(errno));
    for (size_t at = random_bytes; at < layer_bytes_max; at += random_bytes)
        memcpy(pushed_bytes + at, pushed_bytes, random_bytes);
}

static unsigned number_of(const char *what, const char *text, unsigned most)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (end == text || *end || value < 1 || value > most)
        fail("%s: %s is not a number from 1 to %u", what, text, most);
    return (unsigned) value;
}

int main(int count, char **arguments)
{
    if (count != 6)
        fail("traffic PORT CLIENTS SECONDS SEED FILE");
    port = number_of("PORT", arguments[1], UINT16_MAX);
    unsigned clients = number_of("CLIENTS", arguments[2], clients_max);
    unsigned seconds = number_of("SECONDS", arguments[3], seconds_max);
    unsigned seed = number_of("SEED", arguments[4], INT32_MAX);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    make_pushed_bytes();
    read_file(arguments[5]);

    static struct client all[clients_max];
    end_s = now_s() + seconds;
    for (unsigned number = 0; number < clients; number++) {
        struct client *client = &all[number];
        client->lot = ((uint64_t) seed + number) * 0x9E3779B97F4A7C15;
        client->curl = curl_easy_init();
        client->samples = malloc(samples_max * sizeof *client->samples);
        if (!client->curl || !client->samples || pthread_create(&client->thread, NULL, run_client, client) != 0)
            fail("no memory or no thread for client %u", number + 1);
    }
    for (unsigned number = 0; number < clients; number++)
        pthread_join(all[number].thread, NULL);
    for (unsigned number = 0; number < clients; number++)
        for (unsigned sample = 0; sample < all[number].sample_count; sample++)
            printf("%s %u\n", operation_names[all[number].samples[sample].operation],
                   all[number].samples[sample].microseconds);
    return fflush(stdout) == 0 ? 0 : 1;
}
