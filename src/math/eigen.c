/* Jacobi's method in cyclic order (Golub and Van Loan, section 8.5). */
#include "math/eigen.h"

#include <math.h>

enum { MAX_SWEEPS = 60 };

/* Makes element (p, q) zero. */
static void rotate(double *a, size_t n, size_t p, size_t q) {
    const double theta = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q]);
    const double t = (theta >= 0 ? 1 : -1) / (fabs(theta) + sqrt(theta * theta + 1));
    const double c = 1 / sqrt(t * t + 1), s = t * c;
    for (size_t i = 0; i < n; ++i) {
        const double x = a[i * n + p], y = a[i * n + q];
        a[i * n + p] = c * x - s * y;
        a[i * n + q] = s * x + c * y;
    }
    for (size_t i = 0; i < n; ++i) {
        const double x = a[p * n + i], y = a[q * n + i];
        a[p * n + i] = c * x - s * y;
        a[q * n + i] = s * x + c * y;
    }
}

void eigenvalues_symmetric(double *matrix, size_t n, double *values) {
    double size = 0;
    for (size_t i = 0; i < n * n; ++i)
        size = fmax(size, fabs(matrix[i]));
    for (int sweep = 0, is_done = 0; sweep < MAX_SWEEPS && !is_done; ++sweep) {
        is_done = 1;
        for (size_t p = 0; p < n; ++p)
            for (size_t q = p + 1; q < n; ++q)
                if (fabs(matrix[p * n + q]) > 1e-16 * size) {
                    rotate(matrix, n, p, q);
                    is_done = 0;
                }
    }
    for (size_t i = 0; i < n; ++i)
        values[i] = matrix[i * n + i];
}
