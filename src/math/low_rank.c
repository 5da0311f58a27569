/* b^T a = Q_b R_b (Q_a R_a)^T has the singular values of R_b R_a^T. LAPACK stores columns: a row of
 * a factor is a column of its transpose. */
#include "math/low_rank.h"

#include "base/memory.h"
#include "base/report.h"

#include <limits.h>

void dgeqrf_(const int *rows, const int *columns, double *a, const int *distance,
             double *reflections, double *work, const int *work_size, int *info);
void dgesvd_(const char *left_job, const char *right_job, const int *rows, const int *columns,
             double *a, const int *distance, double *values, double *left, const int *left_distance,
             double *right, const int *right_distance, double *work, const int *work_size,
             int *info, size_t left_length, size_t right_length);

static int to_int(size_t size) {
    FAULT_UNLESS(size <= INT_MAX, "%zu is too large for LAPACK", size);
    return (int)size;
}

static size_t smaller(size_t left, size_t right) {
    return left < right ? left : right;
}

/* R of factor^T = Q R: element (i, l), i <= l, at [i + l * size]. Free with memory_free. */
static double *triangle_of(const float *factor, size_t rank, size_t size) {
    const int rows = to_int(size), columns = to_int(rank), work_size = to_int(64 * rank);
    double *a = memory_allocate(rank * size, sizeof *a, "a factor");
    double *reflections = memory_allocate(rank, sizeof *reflections, "reflections");
    double *work = memory_allocate(64 * rank, sizeof *work, "room for a QR decomposition");
    int info = 0;
    for (size_t i = 0; i < rank * size; ++i)
        a[i] = factor[i];
    dgeqrf_(&rows, &columns, a, &rows, reflections, work, &work_size, &info);
    FAULT_UNLESS(info == 0, "dgeqrf: argument %d is wrong", -info);
    memory_free(reflections);
    memory_free(work);
    return a;
}

/* core [columns, rows] = scale R_b R_a^T, of the first `rows` and `columns` rows of both. */
static double *multiply(double scale, const double *b, size_t b_size, size_t rows, const double *a,
                        size_t a_size, size_t columns, size_t rank) {
    double *core = memory_allocate(rows * columns, sizeof *core, "a product of triangles");
    for (size_t j = 0; j < columns; ++j)
        for (size_t i = 0; i < rows; ++i) {
            double sum = 0;
            for (size_t l = i > j ? i : j; l < rank; ++l)
                sum += b[i + l * b_size] * a[j + l * a_size];
            core[i + j * rows] = scale * sum;
        }
    return core;
}

/* values [min(rows, columns)] of core, which is overwritten. */
static bool decompose(double *core, size_t rows, size_t columns, double *values) {
    const int m = to_int(rows), n = to_int(columns), one = 1;
    const size_t size = 64 * (rows + columns);
    const int work_size = to_int(size);
    double *work = memory_allocate(size, sizeof *work, "room for singular values"), none = 0;
    int info = 0;
    dgesvd_("N", "N", &m, &n, core, &m, values, &none, &one, &none, &one, work, &work_size, &info,
            1, 1);
    FAULT_UNLESS(info >= 0, "dgesvd: argument %d is wrong", -info);
    memory_free(work);
    return info == 0;
}

bool low_rank_singular_values(float scale, const float *a, const float *b, size_t rank, size_t rows,
                              size_t columns, float *values) {
    const size_t b_rows = smaller(rank, rows), a_rows = smaller(rank, columns);
    for (size_t i = 0; i < rank; ++i)
        values[i] = 0;
    if (b_rows == 0 || a_rows == 0)
        return true;
    double *r_b = triangle_of(b, rank, rows), *r_a = triangle_of(a, rank, columns);
    double *core = multiply(scale, r_b, rows, b_rows, r_a, columns, a_rows, rank);
    double *exact = memory_allocate(rank, sizeof *exact, "singular values");
    const bool is_good = decompose(core, b_rows, a_rows, exact);
    for (size_t i = 0; i < smaller(b_rows, a_rows); ++i)
        values[i] = (float)exact[i];
    memory_free(exact);
    memory_free(core);
    memory_free(r_a);
    memory_free(r_b);
    return is_good;
}
