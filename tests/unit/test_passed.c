/* Pages that are given back: of what was read, of what was written, and no others. */
#include "base/passed.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/status.h"
#include "unit.h"

#define MIB (UINT64_C(1) << 20)
#define SIZE (96 * MIB)

static int fd;
static char *block;

/* On a disk; what is in memory alone has no pages to give back. */
static int begin(void **state)
{
    char name[] = "/var/tmp/shardweld-XXXXXX";

    (void)state;
    fd = mkstemp(name);
    block = calloc(1, MIB);
    return fd >= 0 && block && unlink(name) == 0 ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    free(block);
    return close(fd);
}

/* Bytes of [at, at + n) that are in the page cache. */
static uint64_t held(uint64_t at, uint64_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size_t)n / page, k = 0;
    unsigned char *in = calloc(pages, 1);
    void *map = mmap(NULL, (size_t)n, PROT_READ, MAP_SHARED, fd, (off_t)at);

    assert_true(map != MAP_FAILED && in);
    assert_int_equal(mincore(map, (size_t)n, in), 0);
    for (size_t i = 0; i < pages; i++)
        k += in[i] & 1;
    munmap(map, (size_t)n);
    free(in);
    return k * page;
}

/* False where the file system keeps all in memory. */
static bool has_pages(void)
{
    bool has;

    assert_int_equal(pwrite(fd, block, MIB, 0), MIB);
    assert_int_equal(fsync(fd), 0);
    sw_passed_all(fd);
    has = held(0, MIB) == 0;
    if (!has)
        print_message("nothing leaves the page cache here\n");
    return has;
}

static void fill(void)
{
    for (uint64_t at = 0; at < SIZE; at += MIB)
        assert_int_equal(pwrite(fd, block, MIB, (off_t)at), MIB);
    assert_int_equal(fsync(fd), 0);
}

/* In pieces that are no multiples of anything, and by two readers in turn. */
TEST_WITH(read, begin, end)
{
    const uint64_t piece = 300007, half = SIZE / 2;

    if (!has_pages())
        skip();
    fill();
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); /* nothing is read ahead */
    for (uint64_t at = 0; at + piece <= half; at += piece)
        for (uint64_t reader = 0; reader < 2; reader++) {
            assert_int_equal(pread(fd, block, piece, (off_t)(at + reader * half)), piece);
            sw_passed_read(fd, at + reader * half, piece);
        }
    assert_in_range(held(0, SIZE), 0, 2 * 2 * MIB + 2 * piece);
    /* what has not gone by as a whole stays */
    assert_int_equal(pread(fd, block, MIB, 0), MIB);
    sw_passed_read(fd, 0, MIB);
    assert_in_range(held(0, MIB), MIB, MIB);
    sw_passed_all(fd);
    assert_int_equal(held(0, SIZE), 0);
}

TEST_WITH(written, begin, end)
{
    sw_passed p = { 0, 0 };
    sw_status st = SW_STATUS_INIT;

    if (!has_pages())
        skip();
    for (uint64_t at = 0; at < SIZE; at += MIB) {
        assert_int_equal(pwrite(fd, block, MIB, (off_t)at), MIB);
        assert_int_equal(sw_passed_written(&p, fd, "f", at, MIB, &st), SW_OK);
        assert_in_range(held(0, SIZE), 0, 36 * MIB);
    }
    /* somewhere else */
    assert_int_equal(pwrite(fd, block, MIB, 0), MIB);
    assert_int_equal(sw_passed_written(&p, fd, "f", 0, MIB, &st), SW_OK);
    assert_int_equal(held(MIB, SIZE - MIB), 0);
    assert_int_equal(sw_passed_settle(&p, fd, "f", &st), SW_OK);
    assert_int_equal(held(0, SIZE), 0);
}

/* What cannot be written is told of; what cannot be asked for so is not. */
TEST(errors)
{
    sw_passed p = { 0, 1 };
    sw_status st = SW_STATUS_INIT;
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    assert_int_equal(sw_passed_settle(&p, ends[1], "f", &st), SW_OK);
    close(ends[0]);
    close(ends[1]);
    p = (sw_passed){ 0, 1 };
    assert_int_equal(sw_passed_settle(&p, -1, "f", &st), SW_EIO);
    assert_non_null(strstr(st.reason, "cannot write"));
}
