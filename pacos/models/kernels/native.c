/* The elementwise parts of the training step, each in one pass over memory. native.py compiles and calls them; beside each
 * caller stands the same in plain torch, which the tests compare it to and which runs where there is no C compiler.
 *
 * A tensor is rows of `n` values in fp32, or in bf16 (wide = 0), which is widened to fp32 row by row and rounded to nearest
 * even on the way back. All arithmetic is fp32. Rows are shared out over the threads that torch itself uses.
 *
 * Each kernel returns what went wrong: 0 nothing, NO_MEMORY, or OUT_OF_RANGE; what it was to write is then worth nothing.
 */
#include "native.h"

/* y = x * rstd * w, rstd = 1 / sqrt(mean(x^2) + eps), which is kept for the backward pass. */
int rms_norm_forward(const void *x, const float *w, void *y, float *rstd, i64 rows, i64 n, float eps, int wide) {
    int failed = 0;
#pragma omp parallel
    {
        float *a = scratch(2 * n, &failed), *b = a + n;
#pragma omp for
        for (i64 r = 0; r < rows; r++) {
            if (!a) continue;
            const float *in = row_in(x, r * n, n, wide, a);
            float *out = row_out(y, r * n, wide, b), sum = 0;
            for (i64 i = 0; i < n; i++) sum += in[i] * in[i];
            float s = 1.0f / sqrtf(sum / n + eps);
            for (i64 i = 0; i < n; i++) out[i] = in[i] * s * w[i];
            row_done(y, r * n, n, wide, b);
            rstd[r] = s;
        }
        free(a);
    }
    return failed;
}

/* dx = rstd * (w dy - x rstd^2 mean(x w dy)) */
int rms_norm_backward(const void *dy, const void *x, const float *w, const float *rstd, void *dx, i64 rows, i64 n, int wide) {
    int failed = 0;
#pragma omp parallel
    {
        float *a = scratch(3 * n, &failed), *b = a + n, *c = b + n;
#pragma omp for
        for (i64 r = 0; r < rows; r++) {
            if (!a) continue;
            const float *in = row_in(x, r * n, n, wide, a), *up = row_in(dy, r * n, n, wide, b);
            float *out = row_out(dx, r * n, wide, c), dot = 0, s = rstd[r];
            for (i64 i = 0; i < n; i++) dot += in[i] * w[i] * up[i];
            float by = dot / n * s * s;
            for (i64 i = 0; i < n; i++) out[i] = s * (w[i] * up[i] - in[i] * by);
            row_done(dx, r * n, n, wide, c);
        }
        free(a);
    }
    return failed;
}

#define GELU_A 0.7978845608028654f
#define GELU_B 0.044715f
/* tanh(u) = 2 sigmoid(2 u) - 1 */
static inline float tanh_of(float u) { return 2.0f * sigmoid_of(2.0f * u) - 1.0f; }

/* out = act(gate) * up; gate and up are rows of n, `stride` apart; act is SiLU, or GELU by tanh. */
int gated_forward(const void *gate, const void *up, void *out, i64 rows, i64 n, i64 stride, int gelu, int wide) {
    int failed = 0;
#pragma omp parallel
    {
        float *a = scratch(3 * n, &failed), *b = a + n, *c = b + n;
#pragma omp for
        for (i64 r = 0; r < rows; r++) {
            if (!a) continue;
            const float *g = row_in(gate, r * stride, n, wide, a), *u = row_in(up, r * stride, n, wide, b);
            float *o = row_out(out, r * n, wide, c);
            if (gelu)
                for (i64 i = 0; i < n; i++)
                    o[i] = 0.5f * g[i] * (1.0f + tanh_of(GELU_A * (g[i] + GELU_B * g[i] * g[i] * g[i]))) * u[i];
            else
                for (i64 i = 0; i < n; i++) o[i] = g[i] * sigmoid_of(g[i]) * u[i];
            row_done(out, r * n, n, wide, c);
        }
        free(a);
    }
    return failed;
}

/* The gradients of gate and up, rows `stride` apart as they are, from that of `out`. */
int gated_backward(const void *gate, const void *up, const void *dout, void *dgate, void *dup, i64 rows, i64 n, i64 stride,
                   int gelu, int wide) {
    int failed = 0;
#pragma omp parallel
    {
        float *a = scratch(5 * n, &failed), *b = a + n, *c = b + n, *d = c + n, *e = d + n;
#pragma omp for
        for (i64 r = 0; r < rows; r++) {
            if (!a) continue;
            const float *g = row_in(gate, r * stride, n, wide, a), *u = row_in(up, r * stride, n, wide, b);
            const float *o = row_in(dout, r * n, n, wide, c);
            float *dg = row_out(dgate, r * stride, wide, d), *du = row_out(dup, r * stride, wide, e);
            if (gelu)
                for (i64 i = 0; i < n; i++) {
                    float x = g[i], t = tanh_of(GELU_A * (x + GELU_B * x * x * x));
                    float slope = 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * GELU_A * (1.0f + 3.0f * GELU_B * x * x);
                    dg[i] = o[i] * u[i] * slope;
                    du[i] = o[i] * 0.5f * x * (1.0f + t);
                }
            else
                for (i64 i = 0; i < n; i++) {
                    float s = sigmoid_of(g[i]), up_grad = o[i] * g[i] * s;
                    dg[i] = o[i] * u[i] * s * (1.0f + g[i] * (1.0f - s));
                    du[i] = up_grad;
                }
            row_done(dgate, r * stride, n, wide, d);
            row_done(dup, r * stride, n, wide, e);
        }
        free(a);
    }
    return failed;
}

/* Rotary positions in place, on `heads` heads of `size` values in rows `stride` apart; the first 2 * half of each turn.
 * back = 1 is the transpose, for gradients. cos, sin: (rows, 2 * half). */
int rotate(void *x, const float *cos, const float *sin, i64 rows, i64 heads, i64 size, i64 half, i64 stride, int back, int wide) {
    int failed = 0;
#pragma omp parallel
    {
        float *own = scratch(2 * half, &failed);
#pragma omp for
        for (i64 r = 0; r < rows; r++) {
            if (!own) continue;
            const float *c1 = cos + r * 2 * half, *s1 = sin + r * 2 * half, *c2 = c1 + half, *s2 = s1 + half;
            for (i64 h = 0; h < heads; h++) {
                i64 at = r * stride + h * size;
                float *v = (float *)row_in(x, at, 2 * half, wide, own), *low = v, *high = v + half;
                for (i64 i = 0; i < half; i++) {
                    float l = low[i], g = high[i];
                    low[i] = back ? l * c1[i] + g * s2[i] : l * c1[i] - g * s1[i];
                    high[i] = back ? g * c2[i] - l * s1[i] : g * c2[i] + l * s2[i];
                }
                row_done(x, at, 2 * half, wide, own);
            }
        }
        free(own);
    }
    return failed;
}

/* Runs of tokens to and from the rows of a batched product: run u, `table[u]` = (start, count, span, at, spare), lies at rows
 * [at, at + count) of its span, with `spare` rows of zeros behind it. x: (tokens, heads, size), its strides given; rows:
 * (spans, heads, room, size). */
typedef struct {
    i64 start, count, span, at, spare;
} Run;

int gather_runs(const void *x, void *rows, const Run *table, i64 runs, i64 heads, i64 room, i64 size, i64 token, i64 head, int wide) {
    i64 bytes = wide ? 4 : 2;
#pragma omp parallel for collapse(2)
    for (i64 u = 0; u < runs; u++)
        for (i64 h = 0; h < heads; h++) {
            Run run = table[u];
            const char *in = (const char *)x + (run.start * token + h * head) * bytes;
            char *out = (char *)rows + ((run.span * heads + h) * room + run.at) * size * bytes;
            for (i64 i = 0; i < run.count; i++) memcpy(out + i * size * bytes, in + i * token * bytes, size * bytes);
            memset(out + run.count * size * bytes, 0, run.spare * size * bytes);
        }
    return 0;
}

/* x += by * rows. Runs may share tokens, so it is the values of a head that the threads share out. */
int scatter_runs(const void *rows, void *x, const Run *table, i64 runs, i64 heads, i64 room, i64 size, i64 token, i64 head, float by,
                  int wide) {
    i64 halves = 2, width = (size + 1) / 2;
#pragma omp parallel for collapse(2)
    for (i64 h = 0; h < heads; h++)
        for (i64 half = 0; half < halves; half++)
            for (i64 u = 0; u < runs; u++) {
                i64 from = half * width, to = half ? size : width;
                for (i64 i = 0; i < table[u].count; i++) {
                    i64 in = ((table[u].span * heads + h) * room + table[u].at + i) * size;
                    i64 out = (table[u].start + i) * token + h * head;
                    if (wide)
                        for (i64 d = from; d < to; d++) ((float *)x)[out + d] += by * ((const float *)rows)[in + d];
                    else
                        for (i64 d = from; d < to; d += 16) {
                            i64 some = to - d < 16 ? to - d : 16;
                            float sums[16];
                            for (i64 j = 0; j < some; j++)
                                sums[j] = widen(((uint16_t *)x)[out + d + j]) + by * widen(((const uint16_t *)rows)[in + d + j]);
                            row_done(x, out + d, some, 0, sums);
                        }
                }
            }
    return 0;
}

/* Softmax in place over the columns [first, last) of each row, zeros elsewhere. Scores lie as (blocks, repeats, queries,
 * columns); first and last as (blocks, queries): the same for all repeats (heads). */
int softmax_spans(void *scores, const int32_t *first, const int32_t *last, i64 blocks, i64 repeats, i64 queries, i64 columns,
                  int wide) {
    i64 rows = blocks * repeats * queries;
    int failed = 0;
#pragma omp parallel
    {
        float *own = scratch(columns, &failed);
#pragma omp for
        for (i64 r = 0; r < rows; r++) {
            if (!own) continue;
            i64 place = r / (repeats * queries) * queries + r % queries, from = first[place], to = last[place];
            float *s = (float *)row_in(scores, r * columns, columns, wide, own);
            float top = largest(s + from, to - from), sum = 0;
            for (i64 i = from; i < to; i++) {
                s[i] = exp_of(s[i] - top);
                sum += s[i];
            }
            float by = 1.0f / sum;
            for (i64 i = from; i < to; i++) s[i] *= by;
            for (i64 i = 0; i < from; i++) s[i] = 0;
            for (i64 i = to; i < columns; i++) s[i] = 0;
            row_done(scores, r * columns, columns, wide, own);
        }
        free(own);
    }
    return failed;
}

/* In place on the gradient of the weights: d score = weight * (d weight - sum(weight * d weight)). */
int softmax_backward(const void *weights, void *grad, i64 rows, i64 columns, int wide) {
    int failed = 0;
#pragma omp parallel
    {
        float *a = scratch(2 * columns, &failed), *b = a + columns;
#pragma omp for
        for (i64 r = 0; r < rows; r++) {
            if (!a) continue;
            const float *p = row_in(weights, r * columns, columns, wide, a);
            float *g = (float *)row_in(grad, r * columns, columns, wide, b), dot = 0;
            for (i64 i = 0; i < columns; i++) dot += p[i] * g[i];
            for (i64 i = 0; i < columns; i++) g[i] = p[i] * (g[i] - dot);
            row_done(grad, r * columns, columns, wide, b);
        }
        free(a);
    }
    return failed;
}

/* nll[r] = logsumexp(z_r) - z_r[target_r]; with `grad`, z becomes softmax(z) - onehot(target), in place. */
int cross_entropy_rows(void *logits, const i64 *targets, float *nll, i64 rows, i64 n, int grad, int wide) {
    int failed = 0;
#pragma omp parallel
    {
        float *own = scratch(n, &failed);
#pragma omp for
        for (i64 r = 0; r < rows; r++) {
            if (!own) continue;
            if (targets[r] < 0 || targets[r] >= n) {
#pragma omp atomic write
                failed = OUT_OF_RANGE;
                continue;
            }
            float *z = (float *)row_in(logits, r * n, n, wide, own);
            float top = largest(z, n), sum = 0, chosen = z[targets[r]];
            if (grad) {
                for (i64 i = 0; i < n; i++) {
                    z[i] = exp_of(z[i] - top);
                    sum += z[i];
                }
                float by = 1.0f / sum;
                for (i64 i = 0; i < n; i++) z[i] *= by;
                z[targets[r]] -= 1.0f;
                row_done(logits, r * n, n, wide, own);
            } else
                for (i64 i = 0; i < n; i++) sum += exp_of(z[i] - top);
            nll[r] = top + logf(sum) - chosen;
        }
        free(own);
    }
    return failed;
}
