/*
 * Repository names, tags, references: what is accepted keeps its text; escaping is reversible, fits a file name, and
 * keeps the order of two names (input: two lines).
 */
#include "fuzz.h"
#include "registry/name.h"

static int sign(int n)
{
    return (n > 0) - (n < 0);
}

static void check_pair(struct str one, struct str two)
{
    struct err err = ERR_INIT;
    struct repo_name first, second;
    if (repo_name_parse(one, &first, &err) != ERR_OK || repo_name_parse(two, &second, &err) != ERR_OK)
        return;
    assert(str_equal(one, str_from(first.text)) && str_equal(two, str_from(second.text)));

    char first_escaped[REPO_NAME_CHARS_MAX + 1], second_escaped[REPO_NAME_CHARS_MAX + 1];
    repo_name_escape(&first, first_escaped);
    repo_name_escape(&second, second_escaped);
    assert(!strchr(first_escaped, '/') && first_escaped[0] != '.');

    struct repo_name back;
    assert(repo_name_unescape(first_escaped, &back) && strcmp(back.text, first.text) == 0);
    assert(sign(strcmp(first.text, second.text)) == sign(strcmp(first_escaped, second_escaped)));
}

static void check_unescape(struct str text)
{
    char name[2 * REPO_NAME_CHARS_MAX];
    if (text.len >= sizeof(name) || (text.len > 0 && memchr(text.ptr, '\0', text.len)))
        return;
    *(char *) mempcpy(name, text.ptr, text.len) = '\0';

    struct repo_name repo;
    if (repo_name_unescape(name, &repo)) {
        struct err err = ERR_INIT;
        struct repo_name parsed;
        char again[REPO_NAME_CHARS_MAX + 1];
        assert(repo_name_parse(str_from(repo.text), &parsed, &err) == ERR_OK);
        repo_name_escape(&repo, again);
        assert(strcmp(again, name) == 0);
    }
}

static void check_reference(struct str text)
{
    struct err err = ERR_INIT;
    struct tag_name tag;
    bool is_tag = tag_name_parse(text, &tag, &err) == ERR_OK;
    if (is_tag)
        assert(str_equal(text, str_from(tag.text)));

    struct reference reference;
    enum err_code code = reference_parse(text, &reference, &err);
    if (code == ERR_OK && reference.is_digest) {
        char again[DIGEST_TEXT_BYTES_MAX];
        digest_format(&reference.digest, again);
        assert(str_equal(text, str_from(again)) && !is_tag);
    } else if (code == ERR_OK) {
        assert(is_tag && str_equal(text, str_from(reference.tag.text)));
    } else {
        assert(!is_tag && (code == ERR_TAG_INVALID || code == ERR_DIGEST_INVALID) && code == err.code);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str first, second;
    fuzz_split(fuzz_text(data, size), &first, &second);
    check_pair(first, second);
    check_unescape(first);
    check_reference(first);
    return 0;
}
