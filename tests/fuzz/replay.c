/*
 * Runs a fuzz target over files and folders of inputs, without libFuzzer: corpora as ordinary tests, and the way to
 * step through one input in a debugger.
 *
 *     build/asan/tests/fuzz/fuzz_digest tests/fuzz/corpus/digest [FILE …]
 */
#include "base/cleanup.h"
#include "fuzz.h"

#include <dirent.h>
#include <stdbool.h>
#include <sys/stat.h>

#define INPUT_BYTES_MAX (1024L * 1024)

static size_t inputs_run;

static bool replay_file(const char *path)
{
    auto_file file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        return false;
    }
    long size = ftell(file);
    if (size < 0 || size > INPUT_BYTES_MAX || fseek(file, 0, SEEK_SET) != 0) {
        fprintf(stderr, "%s: unreadable, or larger than %ld bytes\n", path, INPUT_BYTES_MAX);
        return false;
    }
    auto_mem uint8_t *bytes = malloc((size_t) size);
    if (size > 0 && (!bytes || fread(bytes, 1, (size_t) size, file) != (size_t) size)) {
        perror(path);
        return false;
    }
    /* Named before it runs: the last line is the culprit when the target dies. */
    printf("%s\n", path);
    fflush(stdout);
    (void) LLVMFuzzerTestOneInput(bytes, (size_t) size);
    inputs_run++;
    return true;
}

static bool replay_folder(const char *path, DIR *dir)
{
    struct dirent *entry;
    while ((entry = readdir(dir))) {
        char below[4096];
        if (entry->d_name[0] == '.')
            continue;
        if (snprintf(below, sizeof(below), "%s/%s", path, entry->d_name) >= (int) sizeof(below) || !replay_file(below))
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        auto_dir dir = opendir(argv[i]);
        if (!(dir ? replay_folder(argv[i], dir) : replay_file(argv[i])))
            return 1;
    }
    printf("%zu inputs\n", inputs_run);
    return inputs_run > 0 ? 0 : 1;
}
