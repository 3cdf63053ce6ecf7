/* One token of each of N rows through every layer of a Llama-like network, in one call (decode.py).
 *
 *     x += o(attend(rotate(qkv(norm x))))        x += down(act(gate(norm x)) * up(norm x))        logits = head(norm x)
 *
 * At a few rows a step costs what it takes to read the weights once; at many, its products. Both are done here on the matrices
 * as torch holds them, (out, in): a tile is 4 rows of x times 4 rows of a matrix, its sums kept in registers; for more than 8
 * rows in bf16 the sums of 16 rows lie in one register instead. Within either, a row's numbers do not depend on those beside it.
 *
 * The state x and all sums are fp32; what goes into a product is in the model's dtype, fp32 or bf16. All threads stay in one
 * parallel region for the whole step, and share out the matrices' rows, or the rows and heads.
 */
#include "native.h"
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
#define VECTORS
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

typedef struct {
    const float *a, *b; /* (rank, in) and (count, rank) */
    i64 rank, start, count, owner; /* adds to outputs [start, start + count) of the rows that `owner` writes; -1: of all */
    float scale;
} Lora;

typedef struct {
    const void *weight, *bias; /* (out, in); (out) or NULL */
    i64 out, in, num_loras;
    const Lora *loras;
} Matrix;

typedef struct {
    const void *norm_before, *norm_between;
    Matrix qkv[3], o, gate_up[2], down; /* a fused matrix is the first, and the others have no rows */
    void *keys, *values;                /* (slots, K, room, size) */
    i64 window;                         /* 0: none */
} Layer;

typedef struct {
    const Layer *layers;
    const void *last_norm;
    Matrix head;
    i64 num_layers, width, heads, kv_heads, size, half, inner, gelu, wide;
    float eps, scaling;
} Decoder;

typedef struct {
    float *x;                  /* (N, width), overwritten */
    const float *cos, *sin;    /* (.., 2 half) */
    const i64 *turns;          /* the row of cos and sin that is of each token's position */
    const i64 *lengths;        /* positions already written */
    const i64 *owners;         /* whose adapters each row is written with */
    float *logits;             /* (N, vocabulary) */
    i64 rows, room;
} Step;

static inline i64 num_threads(void) {
#ifdef _OPENMP
    return omp_get_num_threads();
#else
    return 1;
#endif
}

enum { TILE = 4, CACHE = 20480 };

static inline const char *at(const void *x, i64 i, i64 wide) { return (const char *)x + i * (wide ? 4 : 2); }
static inline float number(const void *x, i64 i, i64 wide) { return wide ? ((const float *)x)[i] : widen(((const uint16_t *)x)[i]); }

static void write_row(void *x, i64 to, const float *from, i64 n, i64 wide) {
    if (wide)
        memcpy((float *)x + to, from, n * sizeof(float));
    else
        row_done(x, to, n, 0, from);
}

/* out[r * stride + c] (+)= x_r . w_c for a tile of mb rows x and nb rows w, each k values. */
#ifdef VECTORS
static inline __m512 fold_tile(__m512 a, __m512 b, __m512 c, __m512 d) { /* lane i of 4: four parts of the sum of the i-th */
    __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
    __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xEE));
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
}

static inline __m512 sums_of(const __m512 r[TILE]) { /* (x row, w row) of 4 x 4 */
    __m512 p = _mm512_add_ps(_mm512_unpacklo_ps(r[0], r[1]), _mm512_unpackhi_ps(r[0], r[1]));
    __m512 q = _mm512_add_ps(_mm512_unpacklo_ps(r[2], r[3]), _mm512_unpackhi_ps(r[2], r[3]));
    __m512 by_w = _mm512_add_ps(_mm512_shuffle_ps(p, q, 0x44), _mm512_shuffle_ps(p, q, 0xEE));
    const __m512i turn = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_ps(turn, by_w);
}

static inline __attribute__((always_inline)) void tile_of(const char *const w[TILE], const char *const x[TILE], i64 k, const int mb,
                                                          const int wide, __m512 out[TILE]) {
    __m512 sum[TILE][TILE];
    for (int r = 0; r < mb; r++)
        for (int c = 0; c < TILE; c++) sum[r][c] = _mm512_setzero_ps();
    i64 step = wide ? 16 : 32, bytes = k * (wide ? 4 : 2), whole = k / step * 64;
    if (wide) {
        for (i64 i = 0; i < bytes; i += 64) {
            __mmask16 some = i < whole ? 0xffff : (__mmask16)((1u << (k % step)) - 1);
            __m512 v[TILE];
            for (int c = 0; c < TILE; c++) v[c] = _mm512_maskz_loadu_ps(some, w[c] + i);
            for (int r = 0; r < mb; r++) {
                __m512 u = _mm512_maskz_loadu_ps(some, x[r] + i);
                for (int c = 0; c < TILE; c++) sum[r][c] = _mm512_fmadd_ps(u, v[c], sum[r][c]);
            }
        }
    } else {
#ifdef __AVX512BF16__
        i64 i = 0;
        if (mb == 1) { /* memory sets the pace: read it in the order in which it lies */
            for (int c = 0; c < TILE; c++)
                for (i = 0; i < whole; i += 64)
                    sum[0][c] = _mm512_dpbf16_ps(sum[0][c], (__m512bh)_mm512_loadu_si512(x[0] + i),
                                                 (__m512bh)_mm512_loadu_si512(w[c] + i));
        }
        for (; i < whole; i += 64) {
            __m512i v[TILE];
            for (int c = 0; c < TILE; c++) v[c] = _mm512_loadu_si512(w[c] + i);
            for (int r = 0; r < mb; r++) {
                __m512i u = _mm512_loadu_si512(x[r] + i);
                for (int c = 0; c < TILE; c++) sum[r][c] = _mm512_dpbf16_ps(sum[r][c], (__m512bh)u, (__m512bh)v[c]);
            }
        }
        if (i < bytes) {
            __mmask32 some = (__mmask32)((1ull << (k % step)) - 1);
            for (int r = 0; r < mb; r++)
                for (int c = 0; c < TILE; c++)
                    sum[r][c] = _mm512_dpbf16_ps(sum[r][c], (__m512bh)_mm512_maskz_loadu_epi16(some, x[r] + i),
                                                 (__m512bh)_mm512_maskz_loadu_epi16(some, w[c] + i));
        }
#else
        for (i64 i = 0; i < k; i += 16) {
            __mmask16 some = k - i >= 16 ? 0xffff : (__mmask16)((1u << (k - i)) - 1);
            for (int r = 0; r < mb; r++)
                for (int c = 0; c < TILE; c++) {
                    __m512i u = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, x[r] + 2 * i));
                    __m512i v = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, w[c] + 2 * i));
                    sum[r][c] = _mm512_fmadd_ps((__m512)_mm512_slli_epi32(u, 16), (__m512)_mm512_slli_epi32(v, 16), sum[r][c]);
                }
        }
#endif
    }
    for (int r = 0; r < TILE; r++)
        out[r] = r < mb ? fold_tile(sum[r][0], sum[r][1], sum[r][2], sum[r][3]) : _mm512_setzero_ps();
}

static inline __attribute__((always_inline)) void tile_by(const char *const w[TILE], const char *const x[TILE], i64 k, int mb,
                                                          const int wide, float out[TILE * TILE]) {
    __m512 parts[TILE];
    switch (mb) {
    case 1: tile_of(w, x, k, 1, wide, parts); break;
    case 2: tile_of(w, x, k, 2, wide, parts); break;
    case 3: tile_of(w, x, k, 3, wide, parts); break;
    default: tile_of(w, x, k, 4, wide, parts);
    }
    _mm512_storeu_ps(out, sums_of(parts));
}
#else
static inline void tile_by(const char *const w[TILE], const char *const x[TILE], i64 k, int mb, int wide, float out[TILE * TILE]) {
    for (int r = 0; r < mb; r++)
        for (int c = 0; c < TILE; c++) {
            float sum = 0;
            for (i64 i = 0; i < k; i++) sum += number(x[r], i, wide) * number(w[c], i, wide);
            out[r * TILE + c] = sum;
        }
}
#endif

/* x: rows of k values; w: n rows of k values; out (+)= x w^T, its rows `stride` apart. */
static void products(const void *x, i64 rows, const void *w, i64 n, i64 k, float *out, i64 stride, int add, i64 wide) {
    for (i64 r = 0; r < rows; r += TILE) {
        int mb = rows - r < TILE ? (int)(rows - r) : TILE;
        const char *xs[TILE], *ws[TILE];
        for (int i = 0; i < TILE; i++) xs[i] = at(x, (r + (i < mb ? i : 0)) * k, wide);
        for (i64 c = 0; c < n; c += TILE) {
            int nb = n - c < TILE ? (int)(n - c) : TILE;
            float sums[TILE * TILE];
            for (int i = 0; i < TILE; i++) ws[i] = at(w, (c + (i < nb ? i : 0)) * k, wide);
            if (wide)
                tile_by(ws, xs, k, mb, 1, sums);
            else
                tile_by(ws, xs, k, mb, 0, sums);
            for (int i = 0; i < mb; i++) {
                float *to = out + (r + i) * stride + c, *from = sums + i * TILE;
                if (add)
                    for (int j = 0; j < nb; j++) from[j] += to[j];
                if (nb == TILE)
                    memcpy(to, from, TILE * sizeof(float));
                else
                    memcpy(to, from, nb * sizeof(float));
            }
        }
    }
}

/* For many rows the sums of 16 rows lie in one register, so that none has to be folded: x is laid out as pairs of values,
 * (blocks of 16 rows, k / 2, 16, 2), and each pair of a matrix is spread over the register. */
enum { BLOCK = 16, BLOCKS = 4, ACROSS = 6, PIECE = 4 * ACROSS };

static inline int in_blocks(i64 rows, i64 k, i64 wide) {
#if defined(VECTORS) && defined(__AVX512BF16__)
    return !wide && rows > BLOCK / 2 && k % 2 == 0;
#else
    return (void)rows, (void)k, (void)wide, 0;
#endif
}

#if defined(VECTORS) && defined(__AVX512BF16__)
static void lay_out(const uint32_t *x, i64 rows, i64 pairs, uint32_t *laid) {
    i64 parts = (pairs + 31) / 32, blocks = (rows + BLOCK - 1) / BLOCK;
#pragma omp for collapse(2)
    for (i64 b = 0; b < blocks; b++)
        for (i64 part = 0; part < parts; part++)
            for (i64 j = part * 32; j < pairs && j < part * 32 + 32; j++)
                for (i64 r = 0; r < BLOCK; r++)
                    laid[(b * pairs + j) * BLOCK + r] = b * BLOCK + r < rows ? x[(b * BLOCK + r) * pairs + j] : 0;
}

static inline __attribute__((always_inline)) void block_of(const uint32_t *laid, const uint32_t *const w[ACROSS], i64 pairs,
                                                           const int blocks, const uint32_t *next, float *sums) {
    __m512 sum[ACROSS][BLOCKS];
    for (int c = 0; c < ACROSS; c++)
        for (int b = 0; b < blocks; b++) sum[c][b] = _mm512_setzero_ps();
    for (i64 j = 0; j < pairs; j++) {
        __m512bh x[BLOCKS];
        _mm_prefetch((const char *)(next + j * ACROSS), _MM_HINT_T1);
        for (int b = 0; b < blocks; b++) x[b] = (__m512bh)_mm512_loadu_si512(laid + (b * pairs + j) * BLOCK);
        for (int c = 0; c < ACROSS; c++) {
            __m512bh v = (__m512bh)_mm512_set1_epi32((int)w[c][j]);
            for (int b = 0; b < blocks; b++) sum[c][b] = _mm512_dpbf16_ps(sum[c][b], x[b], v);
        }
    }
    for (int c = 0; c < ACROSS; c++)
        for (int b = 0; b < blocks; b++) _mm512_storeu_ps(sums + (c * BLOCKS + b) * BLOCK, sum[c][b]);
}

/* As `products`, for at most PIECE rows of w and x laid out. What lies `ahead` rows behind w is fetched meanwhile. */
static void block_products(const uint32_t *laid, i64 rows, const uint32_t *w, i64 n, i64 pairs, float *out, i64 stride, int add,
                           i64 ahead) {
    float sums[PIECE * BLOCKS * BLOCK];
    for (i64 r = 0; r < rows; r += BLOCKS * BLOCK) {
        i64 some = rows - r < BLOCKS * BLOCK ? rows - r : BLOCKS * BLOCK;
        const uint32_t *x = laid + r * pairs;
        for (i64 c = 0; c < n; c += ACROSS) {
            const uint32_t *ws[ACROSS];
            const uint32_t *next = w + (c + ahead) * pairs;
            float *to = sums + c * BLOCKS * BLOCK;
            for (int i = 0; i < ACROSS; i++) ws[i] = w + (c + i < n ? c + i : c) * pairs;
            switch ((some + BLOCK - 1) / BLOCK) {
            case 1: block_of(x, ws, pairs, 1, next, to); break;
            case 2: block_of(x, ws, pairs, 2, next, to); break;
            case 3: block_of(x, ws, pairs, 3, next, to); break;
            default: block_of(x, ws, pairs, 4, next, to);
            }
        }
        for (i64 i = 0; i < some; i++) {
            float *to = out + (r + i) * stride;
            for (i64 c = 0; c < n; c++) to[c] = sums[c * BLOCKS * BLOCK + i] + (add ? to[c] : 0);
        }
    }
}
#endif

/* out (N, all their outputs side by side) (+)= x through `count` matrices of one input. Called by all threads; `laid` is room
 * for x laid out. */
static void through(const Matrix *matrices, i64 count, const void *x, i64 rows, float *out, i64 stride, int add, void *laid, i64 wide) {
    /* pieces of a matrix: where it is read once, as long as they can be, one a thread, since memory is fastest read on and on;
     * small enough to stay in the first cache where it is read for many rows */
    i64 k = matrices[0].in, all = 0, pieces = 0;
    for (i64 m = 0; m < count; m++) all += matrices[m].out;
    i64 shares = num_threads() * TILE, fits = CACHE / (k * (wide ? 4 : 2)) / TILE;
    i64 piece = (rows <= TILE ? (all + shares - 1) / shares : fits) * TILE;
    int blocks = in_blocks(rows, k, wide);
    if (piece < TILE) piece = TILE;
    if (blocks) piece = PIECE;
    for (i64 m = 0; m < count; m++) pieces += (matrices[m].out + piece - 1) / piece;
#if defined(VECTORS) && defined(__AVX512BF16__)
    if (blocks) lay_out(x, rows, k / 2, laid);
#endif
#pragma omp for schedule(dynamic, 1)
    for (i64 p = 0; p < pieces; p++) {
        const Matrix *m = matrices;
        i64 column = 0, own = p;
        for (; own >= (m->out + piece - 1) / piece; m++) {
            own -= (m->out + piece - 1) / piece;
            column += m->out;
        }
        i64 from = own * piece, n = m->out - from < piece ? m->out - from : piece;
        float *to = out + column + from;
        const void *w = at(m->weight, from * k, wide);
#if defined(VECTORS) && defined(__AVX512BF16__)
        if (blocks)
            block_products(laid, rows, w, n, k / 2, to, stride, add, piece * num_threads());
        else
#endif
            products(x, rows, w, n, k, to, stride, add, wide);
        if (m->bias)
            for (i64 r = 0; r < rows; r++)
                for (i64 c = 0; c < n; c++) to[r * stride + c] += number(m->bias, from + c, wide);
    }
}

static int have_adapters(const Matrix *matrices, i64 count) {
    for (i64 m = 0; m < count; m++)
        if (matrices[m].num_loras) return 1;
    return 0;
}

/* What the adapters of `count` matrices add to one row; x is the row that goes into them. */
static void adapt(const Matrix *matrices, i64 count, const void *x, i64 owner, float *out, i64 wide) {
    for (i64 m = 0; m < count; out += matrices[m++].out)
        for (const Lora *l = matrices[m].loras; l < matrices[m].loras + matrices[m].num_loras; l++) {
            if (l->owner >= 0 && l->owner != owner) continue;
            for (i64 j = 0; j < l->rank; j++) {
                const float *a = l->a + j * matrices[m].in;
                float low = 0;
                if (wide)
                    for (i64 i = 0; i < matrices[m].in; i++) low += a[i] * ((const float *)x)[i];
                else
                    for (i64 i = 0; i < matrices[m].in; i++) low += a[i] * widen(((const uint16_t *)x)[i]);
                low *= l->scale;
                for (i64 c = 0; c < l->count; c++) out[l->start + c] += low * l->b[c * l->rank + j];
            }
        }
}

/* to = norm(x) * w of one row, in the model's dtype. */
static void norm_row(const float *x, const void *w, void *to, i64 row, i64 n, float eps, float *own, i64 wide) {
    float sum = 0;
    for (i64 i = 0; i < n; i++) sum += x[i] * x[i];
    float by = 1.0f / sqrtf(sum / n + eps);
    if (wide)
        for (i64 i = 0; i < n; i++) own[i] = x[i] * by * ((const float *)w)[i];
    else
        for (i64 i = 0; i < n; i++) own[i] = x[i] * by * widen(((const uint16_t *)w)[i]);
    write_row(to, row * n, own, n, wide);
}

static void turn(float *x, const float *cos, const float *sin, i64 half) {
    for (i64 i = 0; i < half; i++) {
        float low = x[i], high = x[half + i];
        x[i] = low * cos[i] - high * sin[i];
        x[half + i] = high * cos[half + i] + low * sin[half + i];
    }
}

/* out (heads, size) = weights (heads, seen) x values (seen, size) */
static void mix(const float *weights, const void *values, i64 heads, i64 seen, i64 size, float *out, i64 wide) {
    for (i64 h = 0; h < heads; h++, weights += seen, out += size) {
        i64 d = 0;
#ifdef VECTORS
        for (; d + 64 <= size; d += 64) {
            __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
            for (i64 s = 0; s < seen; s++)
                for (int j = 0; j < 4; j++) {
                    const char *from = at(values, s * size + d + 16 * j, wide);
                    __m512 v = wide ? _mm512_loadu_ps(from)
                                    : (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
                    sum[j] = _mm512_fmadd_ps(_mm512_set1_ps(weights[s]), v, sum[j]);
                }
            for (int j = 0; j < 4; j++) _mm512_storeu_ps(out + d + 16 * j, sum[j]);
        }
#endif
        for (i64 e = d; e < size; e++) out[e] = 0;
        for (i64 s = 0; s < seen && d < size; s++)
            for (i64 e = d; e < size; e++) out[e] += weights[s] * number(values, s * size + e, wide);
    }
}

/* The heads that share one key head, of one row. qkv: the row's q, k and v, turned in place; out: where its q heads lie. */
static void attend(const Decoder *d, const Layer *layer, const Step *s, i64 row, i64 head, float *qkv, void *out, float *own) {
    i64 size = d->size, group = d->heads / d->kv_heads, seen = s->lengths[row] + 1, wide = d->wide;
    i64 from = layer->window && seen > layer->window ? seen - layer->window : 0;
    i64 slot = (row * d->kv_heads + head) * s->room * size;
    const float *cos = s->cos + s->turns[row] * 2 * d->half, *sin = s->sin + s->turns[row] * 2 * d->half;
    float *q = qkv + head * group * size, *k = qkv + (d->heads + head) * size, *v = k + d->kv_heads * size;
    for (i64 h = 0; h < group; h++) turn(q + h * size, cos, sin, d->half);
    turn(k, cos, sin, d->half);
    write_row(layer->keys, slot + (seen - 1) * size, k, size, wide);
    write_row(layer->values, slot + (seen - 1) * size, v, size, wide);
    float *scores = own, *mixed = own + group * s->room;
    void *queries = mixed + group * size;
    write_row(queries, 0, q, group * size, wide);
    i64 width = seen - from;
    products(queries, group, at(layer->keys, slot + from * size, wide), width, size, scores, width, 0, wide);
    for (i64 h = 0; h < group; h++) {
        float *w = scores + h * width, top, sum = 0;
        for (i64 i = 0; i < width; i++) w[i] *= d->scaling;
        top = largest(w, width);
        for (i64 i = 0; i < width; i++) {
            w[i] = exp_of(w[i] - top);
            sum += w[i];
        }
        for (i64 i = 0; i < width; i++) w[i] *= 1.0f / sum;
    }
    mix(scores, at(layer->values, slot + from * size, wide), group, width, size, mixed, wide);
    write_row(out, (row * d->heads + head * group) * size, mixed, group * size, wide);
}

/* to = act(gate) * up of one row, gate and up side by side. */
static void gate_row(const float *both, void *to, i64 row, i64 n, i64 gelu, float *own, i64 wide) {
    const float *g = both, *u = both + n;
    if (gelu)
        for (i64 i = 0; i < n; i++)
            own[i] = g[i] * sigmoid_of(2 * 0.7978845608028654f * (g[i] + 0.044715f * g[i] * g[i] * g[i])) * u[i];
    else
        for (i64 i = 0; i < n; i++) own[i] = g[i] * sigmoid_of(g[i]) * u[i];
    write_row(to, row * n, own, n, wide);
}

static void layer_of(const Decoder *d, const Layer *l, const Step *s, void *in, float *mid, void *laid, float *own) {
    i64 q = d->heads * d->size, all = q + 2 * d->kv_heads * d->size, wide = d->wide;
#pragma omp for
    for (i64 r = 0; r < s->rows; r++) norm_row(s->x + r * d->width, l->norm_before, in, r, d->width, d->eps, own, wide);
    through(l->qkv, 3, in, s->rows, mid, all, 0, laid, wide);
    if (have_adapters(l->qkv, 3)) {
#pragma omp for
        for (i64 r = 0; r < s->rows; r++)
            adapt(l->qkv, 3, at(in, r * d->width, wide), s->owners[r], mid + r * all, wide);
    }
#pragma omp for schedule(dynamic, 1)
    for (i64 i = 0; i < s->rows * d->kv_heads; i++) {
        i64 row = i / d->kv_heads;
        attend(d, l, s, row, i % d->kv_heads, mid + row * all, in, own);
    }
    through(&l->o, 1, in, s->rows, s->x, d->width, 1, laid, wide);
    if (have_adapters(&l->o, 1)) {
#pragma omp for
        for (i64 r = 0; r < s->rows; r++)
            adapt(&l->o, 1, at(in, r * q, wide), s->owners[r], s->x + r * d->width, wide);
    }
#pragma omp for
    for (i64 r = 0; r < s->rows; r++) norm_row(s->x + r * d->width, l->norm_between, in, r, d->width, d->eps, own, wide);
    through(l->gate_up, 2, in, s->rows, mid, 2 * d->inner, 0, laid, wide);
    if (have_adapters(l->gate_up, 2)) {
#pragma omp for
        for (i64 r = 0; r < s->rows; r++)
            adapt(l->gate_up, 2, at(in, r * d->width, wide), s->owners[r], mid + r * 2 * d->inner, wide);
    }
#pragma omp for
    for (i64 r = 0; r < s->rows; r++) gate_row(mid + r * 2 * d->inner, in, r, d->inner, d->gelu, own, wide);
    through(&l->down, 1, in, s->rows, s->x, d->width, 1, laid, wide);
    if (have_adapters(&l->down, 1)) {
#pragma omp for
        for (i64 r = 0; r < s->rows; r++)
            adapt(&l->down, 1, at(in, r * d->inner, wide), s->owners[r], s->x + r * d->width, wide);
    }
}

static i64 most(i64 a, i64 b) { return a > b ? a : b; }

int decode_step(const Decoder *d, const Step *s) {
    i64 q = d->heads * d->size, all = q + 2 * d->kv_heads * d->size, group = d->heads / d->kv_heads;
    i64 widest = most(most(d->width, q), most(d->inner, d->kv_heads * d->size));
    int failed = 0;
    void *in = scratch(s->rows * widest, &failed);
    void *laid = scratch((s->rows + BLOCK) * widest / 2 + 1, &failed);
    float *mid = scratch(s->rows * most(all, 2 * d->inner), &failed);
#pragma omp parallel
    {
        float *own = scratch(most(widest, group * (s->room + 2 * d->size)), &failed);
#pragma omp barrier
        if (!failed) { /* the same for all threads: nothing changes it behind the barrier */
            for (i64 l = 0; l < d->num_layers; l++) layer_of(d, d->layers + l, s, in, mid, laid, own);
#pragma omp for
            for (i64 r = 0; r < s->rows; r++) norm_row(s->x + r * d->width, d->last_norm, in, r, d->width, d->eps, own, d->wide);
            through(&d->head, 1, in, s->rows, s->logits, d->head.out, 0, laid, d->wide);
        }
        free(own);
    }
    free(in);
    free(laid);
    free(mid);
    return failed;
}

/* Of each row of n logits: where the largest is, the first of equals, and the logarithm of the sum of their exponentials. */
int peaks(const float *logits, i64 rows, i64 n, i64 *largest_at, float *mass) {
#pragma omp parallel for
    for (i64 r = 0; r < rows; r++) {
        const float *z = logits + r * n;
        float top = largest(z, n), sum = 0;
        i64 i = 0;
        for (i64 j = 0; j < n; j++) sum += exp_of(z[j] - top);
        while (i < n - 1 && z[i] != top) i++;
        largest_at[r] = i;
        mass[r] = top + logf(sum);
    }
    return 0;
}
