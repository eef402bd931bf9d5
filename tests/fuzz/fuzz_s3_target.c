/* Where a bucket is (input: URL, endpoint, public endpoint, region, a line each): hosts without blanks, and a path. */
#include "fuzz.h"
#include "store/s3_target.h"

#define INPUT_BYTES_MAX 8192

static void check_endpoint(const struct s3_target *target, const struct s3_endpoint *endpoint)
{
    auto_buf path = BUF_INIT(2 * S3_URL_BYTES_MAX + S3_KEY_BYTES_MAX);
    size_t len = strlen(endpoint->host);
    assert(len > 0);
    for (size_t i = 0; i < len; i++)
        assert((unsigned char) endpoint->host[i] > ' ' && !strchr("/?#@\\", endpoint->host[i]));
    size_t base_len = strlen(endpoint->base_path);
    assert(base_len == 0 || (endpoint->base_path[0] == '/' && endpoint->base_path[base_len - 1] != '/'));
    assert(s3_target_path(target, endpoint, "names/a", &path) && path.ptr[0] == '/');
    (void) s3_endpoint_is_public(endpoint);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > INPUT_BYTES_MAX || (size > 0 && memchr(data, '\0', size)))
        return 0;
    char *lines[4] = {NULL};
    auto_mem char *text = malloc(size + 1);
    if (!text)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    char *rest = text;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        lines[i] = strsep(&rest, "\n");

    struct s3_target_settings settings = {
        .url = lines[0],
        .endpoint_url = lines[1],
        .public_endpoint_url = lines[2],
        .region = lines[3],
        .addressing = (enum s3_addressing)(size % 3),
    };
    struct s3_target target;
    struct err err = ERR_INIT;
    if (s3_target_parse(&settings, &target, &err) != ERR_OK) {
        assert(err.code == ERR_INVALID && err.message[0] != '\0');
        return 0;
    }
    size_t prefix_len = strlen(target.prefix);
    assert(prefix_len == 0 || target.prefix[prefix_len - 1] == '/');
    assert(target.bucket[0] != '\0' && target.region[0] != '\0');
    check_endpoint(&target, &target.endpoint);
    check_endpoint(&target, &target.public_endpoint);
    return 0;
}
