/* OpenMP: how many threads add up the first million numbers, and on which node. */
#include <omp.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
    char host[64];
    long sum = 0;
    int threads = 0;
    gethostname(host, sizeof host);
#pragma omp parallel reduction(+ : sum)
    {
#pragma omp single
        threads = omp_get_num_threads();
#pragma omp for
        for (long n = 1; n <= 1000000; n++) sum += n;
    }
    printf("%d threads on %s: %ld\n", threads, host, sum);
    return sum != 500000500000;
}
