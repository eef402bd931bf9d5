#include "base/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_table_has_a_row_for_every_code(void **state)
{
    (void) state;
    for (int code = ERR_OK; code < ERR_CODE_COUNT; code++) {
        const struct err_info *info = err_info((enum err_code) code);
        assert_non_null(info->name);
        assert_true(info->oci_code[0] != '\0');
        assert_true(info->text[0] != '\0');
        assert_in_range(info->http_status, 400, 599);
    }
    assert_string_equal(err_info(ERR_BLOB_UNKNOWN)->name, "BLOB_UNKNOWN");
    assert_int_equal(err_info(ERR_BLOB_UNKNOWN)->http_status, 404);
}

static void test_set_fills_and_clears(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    assert_int_equal(err_set_errno(&err, ENOSPC, "write %s", "x"), ERR_NO_SPACE);
    assert_int_equal(err.sys_errno, ENOSPC);
    assert_string_equal(err.message, "the store is full");
    assert_string_equal(err.detail, "write x: No space left on device");

    assert_int_equal(err_set(&err, ERR_NAME_INVALID, "'%s' is wrong", "A"), ERR_NAME_INVALID);
    assert_int_equal(err.sys_errno, 0);
    assert_string_equal(err.message, "'A' is wrong");
    assert_string_equal(err.detail, "");
    assert_string_equal(err_text(&err), "'A' is wrong");
}

static void test_errno_map(void **state)
{
    (void) state;
    static const struct {
        int sys_errno;
        enum err_code code;
    } rows[] = {
        {ENOSPC, ERR_NO_SPACE}, {EDQUOT, ERR_NO_SPACE},  {EROFS, ERR_READ_ONLY}, {EACCES, ERR_READ_ONLY},
        {EPERM, ERR_READ_ONLY}, {ENOENT, ERR_NOT_FOUND}, {EEXIST, ERR_EXISTS},   {ENOMEM, ERR_NO_MEMORY},
        {EIO, ERR_IO},          {ENAMETOOLONG, ERR_IO},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err = ERR_INIT;
        assert_int_equal(err_set_errno(&err, rows[i].sys_errno, "try"), rows[i].code);
        assert_int_equal(err.code, rows[i].code);
    }
}

static void test_wrap_puts_the_outermost_first(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    (void) err_set_errno(&err, ENOENT, "open a");
    assert_int_equal(err_wrap(&err, "read %s", "b"), ERR_NOT_FOUND);
    (void) err_wrap(&err, "load %s", "c");
    assert_string_equal(err.detail, "load c: read b: open a: No such file or directory");
    assert_string_equal(err.message, "not found");
    assert_int_equal(err.sys_errno, ENOENT);
}

static void test_wrap_without_detail_keeps_the_message_in_it(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    (void) err_set(&err, ERR_INVALID, "no number");
    (void) err_wrap(&err, "line %d", 3);
    assert_string_equal(err.message, "no number");
    assert_string_equal(err.detail, "line 3: no number");
}

static void test_become_changes_what_the_client_sees(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    (void) err_set_errno(&err, ENOENT, "open a");
    assert_int_equal(err_become(&err, ERR_BLOB_UNKNOWN, "blob %d unknown", 1), ERR_BLOB_UNKNOWN);
    assert_int_equal(err.code, ERR_BLOB_UNKNOWN);
    assert_string_equal(err.message, "blob 1 unknown");
    assert_string_equal(err.detail, "open a: No such file or directory");

    (void) err_set(&err, ERR_CORRUPT, "inner");
    (void) err_become(&err, ERR_IO, "outer");
    assert_string_equal(err.detail, "inner");
}

static void test_arguments_may_point_into_err(void **state)
{
    (void) state;
    struct err err = ERR_INIT;
    (void) err_set(&err, ERR_INVALID, "first");
    (void) err_set(&err, ERR_INVALID, "<%s>", err.message);
    assert_string_equal(err.message, "<first>");
    (void) err_wrap(&err, "%s", err.message);
    assert_string_equal(err.detail, "<first>: <first>");
}

static void test_long_texts_are_cut_visibly(void **state)
{
    (void) state;
    char text[2 * ERR_DETAIL_BYTES_MAX];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    struct err err = ERR_INIT;
    (void) err_set(&err, ERR_INVALID, "%s", text);
    assert_int_equal(strlen(err.message), ERR_MESSAGE_BYTES_MAX - 1);
    assert_string_equal(err.message + ERR_MESSAGE_BYTES_MAX - 4, "...");
    (void) err_set_errno(&err, EIO, "%s", text);
    assert_true(strlen(err.detail) < ERR_DETAIL_BYTES_MAX);

    /* A cut never leaves half a character: é is two bytes. */
    for (size_t i = 0; i + 1 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa9", 2);
    text[sizeof(text) - 2] = '\0';
    (void) err_set(&err, ERR_INVALID, "%s", text);
    size_t kept = strlen(err.message) - 3;
    assert_int_equal(kept % 2, 0);
    assert_string_equal(err.message + kept, "...");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_has_a_row_for_every_code),
        cmocka_unit_test(test_set_fills_and_clears),
        cmocka_unit_test(test_errno_map),
        cmocka_unit_test(test_wrap_puts_the_outermost_first),
        cmocka_unit_test(test_wrap_without_detail_keeps_the_message_in_it),
        cmocka_unit_test(test_become_changes_what_the_client_sees),
        cmocka_unit_test(test_arguments_may_point_into_err),
        cmocka_unit_test(test_long_texts_are_cut_visibly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
