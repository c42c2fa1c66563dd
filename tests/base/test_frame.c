#include "test_base.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/frame.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int64_t in_ms(int64_t ms) { return base_now_ns() + ms * 1000000; }

static void make_pair(int pair[2]) { assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0); }

static void assert_first(const base_buffer *buffer, const char *text)
{
    const unsigned char *payload = NULL;
    size_t nbytes = 0;
    bool whole = false;
    assert_ok(base_frame_next(buffer, &payload, &nbytes, &whole));
    assert_true(whole);
    assert_int_equal(nbytes, strlen(text));
    assert_memory_equal(payload, text, nbytes);
}

static void frames_come_one_by_one(void **state)
{
    (void)state;
    base_buffer all = {0}, grown = {0};
    assert_ok(base_frame_append(&all, "hello", 5));
    assert_ok(base_frame_append(&all, "", 0));
    assert_ok(base_frame_append(&all, "you", 3));
    assert_int_equal(all.length, 9 + 4 + 7);
    for (size_t i = 0; i < 9; i++) { /* any piece of the first is not whole */
        const unsigned char *payload = NULL;
        size_t nbytes = 77;
        bool whole = true;
        assert_ok(base_frame_next(&grown, &payload, &nbytes, &whole));
        assert_false(whole);
        assert_int_equal(nbytes, 77);
        assert_ok(base_buffer_append(&grown, all.data + i, 1));
    }
    assert_first(&grown, "hello");
    assert_first(&all, "hello");
    base_buffer_consume(&all, 9);
    assert_first(&all, "");
    base_buffer_consume(&all, 4);
    assert_first(&all, "you");
    base_buffer_free(&all);
    base_buffer_free(&grown);
}

static void too_long_is_refused_before_memory(void **state)
{
    (void)state;
    static const unsigned char announced[4] = {1, 0, 0x40, 0}; /* the limit and one more */
    const unsigned char *payload;
    size_t nbytes;
    bool whole;
    base_buffer buffer = {0};
    assert_int_equal(base_frame_append(&buffer, announced, (size_t)BASE_FRAME_LIMIT + 1), CADRE_EINVAL);
    assert_ok(base_buffer_append(&buffer, announced, 4));
    assert_int_equal(base_frame_next(&buffer, &payload, &nbytes, &whole), CADRE_EPROTO);
    assert_false(whole);
    assert_message_has("4194305");
    int pair[2];
    make_pair(pair);
    assert_int_equal(base_frame_send(pair[0], announced, (size_t)BASE_FRAME_LIMIT + 1, 0), CADRE_EINVAL);
    buffer.length = 0;
    assert_int_equal(write(pair[0], announced, 4), 4);
    assert_int_equal(base_frame_receive(pair[1], &buffer, in_ms(1000)), CADRE_EPROTO);
    assert_true(buffer.capacity < 1 << 20);
    base_buffer_free(&buffer);
    close(pair[0]);
    close(pair[1]);
}

struct drip {
    int fd;
    const char *bytes;
    size_t nbytes;
};

static void *drip_bytes(void *argument)
{
    struct drip *drip = argument;
    for (size_t i = 0; i < drip->nbytes; i++) {
        base_sleep_ns(1000000);
        if (write(drip->fd, drip->bytes + i, 1) != 1)
            break;
    }
    return NULL;
}

static void pieces_are_put_together(void **state)
{
    (void)state;
    int pair[2];
    make_pair(pair);
    struct drip drip = {pair[0], "\5\0\0\0hello\3\0\0\0you", 16};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, drip_bytes, &drip), 0);
    base_buffer buffer = {0};
    assert_ok(base_frame_receive(pair[1], &buffer, in_ms(10000)));
    assert_first(&buffer, "hello");
    base_buffer_consume(&buffer, 9);
    assert_ok(base_frame_receive(pair[1], &buffer, INT64_MAX));
    assert_first(&buffer, "you");
    pthread_join(thread, NULL);
    base_buffer_free(&buffer);
    close(pair[0]);
    close(pair[1]);
}

static void deadlines_hold(void **state)
{
    (void)state;
    int pair[2];
    make_pair(pair);
    base_buffer buffer = {0};
    int64_t before = base_now_ns();
    assert_int_equal(base_frame_receive(pair[1], &buffer, before - 1), CADRE_ETIMEDOUT);
    assert_int_equal(base_frame_receive(pair[1], &buffer, in_ms(30)), CADRE_ETIMEDOUT);
    assert_true(base_now_ns() - before >= 30000000);
    assert_int_equal(write(pair[0], "\5\0\0\0he", 6), 6);
    assert_int_equal(base_frame_receive(pair[1], &buffer, in_ms(10)), CADRE_ETIMEDOUT);
    assert_int_equal(write(pair[0], "llo", 3), 3);
    assert_ok(base_frame_receive(pair[1], &buffer, before)); /* what came before is not lost */
    assert_first(&buffer, "hello");

    char *large = calloc(1, BASE_FRAME_LIMIT); /* nobody reads: the socket fills up */
    assert_non_null(large);
    assert_int_equal(base_frame_send(pair[0], large, BASE_FRAME_LIMIT, in_ms(20)), CADRE_ETIMEDOUT);
    free(large);
    base_buffer_free(&buffer);
    close(pair[0]);
    close(pair[1]);
}

static void *receive_large(void *argument)
{
    base_buffer buffer = {0};
    int fd = *(int *)argument;
    intptr_t nbytes = -1;
    if (base_frame_receive(fd, &buffer, in_ms(20000)) == CADRE_OK && buffer.data[4 + BASE_FRAME_LIMIT - 1] == 'z')
        nbytes = (intptr_t)buffer.length - 4;
    base_buffer_free(&buffer);
    return (void *)nbytes;
}

static void the_largest_goes_through(void **state)
{
    (void)state;
    int pair[2];
    make_pair(pair);
    char *large = calloc(1, BASE_FRAME_LIMIT);
    assert_non_null(large);
    large[BASE_FRAME_LIMIT - 1] = 'z';
    pthread_t thread;
    void *nbytes;
    assert_int_equal(pthread_create(&thread, NULL, receive_large, &pair[1]), 0);
    assert_ok(base_frame_send(pair[0], large, BASE_FRAME_LIMIT, in_ms(20000)));
    pthread_join(thread, &nbytes);
    assert_int_equal((intptr_t)nbytes, BASE_FRAME_LIMIT);
    free(large);
    close(pair[0]);
    close(pair[1]);
}

static void a_lost_peer_is_noticed(void **state)
{
    (void)state;
    int pair[2];
    make_pair(pair);
    base_buffer buffer = {0};
    assert_int_equal(write(pair[0], "\5\0\0\0h", 5), 5);
    close(pair[0]);
    assert_int_equal(base_frame_receive(pair[1], &buffer, in_ms(1000)), CADRE_ECLOSED);
    assert_int_equal(base_frame_send(pair[1], "x", 1, in_ms(1000)), CADRE_ECLOSED); /* and no SIGPIPE */
    base_buffer_free(&buffer);
    close(pair[1]);
}

static void without_memory_nothing_is_lost(void **state)
{
    (void)state;
    int pair[2];
    make_pair(pair);
    base_buffer buffer = {0};
    assert_ok(base_frame_send(pair[0], "hello", 5, in_ms(1000)));
    base_fault_set("alloc:1");
    assert_int_equal(base_frame_receive(pair[1], &buffer, in_ms(1000)), CADRE_ENOMEM);
    base_fault_set(NULL);
    assert_ok(base_frame_receive(pair[1], &buffer, in_ms(1000)));
    assert_first(&buffer, "hello");
    base_buffer_free(&buffer);
    close(pair[0]);
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_one_by_one),         cmocka_unit_test(too_long_is_refused_before_memory),
        cmocka_unit_test(pieces_are_put_together),        cmocka_unit_test(deadlines_hold),
        cmocka_unit_test(the_largest_goes_through),       cmocka_unit_test(a_lost_peer_is_noticed),
        cmocka_unit_test(without_memory_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
