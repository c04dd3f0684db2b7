#include "task/text_score.h"

#include <stdbool.h>
#include <string.h>

typedef struct range {
    uint32_t first, last;
} range;

/* --- characters --- */

/* What separates words. */
static const range blanks[] = {
    {0x09, 0x0D},     {0x1C, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
    {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};

/* Neither letter nor digit, above ASCII: marks, punctuation, signs. */
static const range symbols[] = {
    {0x80, 0xA9},     {0xAB, 0xB1},     {0xB4, 0xB4},     {0xB6, 0xB8},     {0xBB, 0xBB},
    {0xBF, 0xBF},     {0xD7, 0xD7},     {0xF7, 0xF7},     {0x2C2, 0x2C5},   {0x2D2, 0x2DF},
    {0x300, 0x36F},   {0x2000, 0x206F}, {0x207A, 0x207E}, {0x208A, 0x208E}, {0x20A0, 0x20CF},
    {0x2190, 0x245F}, {0x2500, 0x2775}, {0x2794, 0x2BFF}, {0x3000, 0x3004}, {0x3008, 0x3020},
    {0xFF01, 0xFF0F}, {0xFFFC, 0xFFFF}};

/* Capitals and how far away their small letters are; of every second one where step is 2. */
static const struct {
    range capitals;
    int step, distance;
} capitals[] = {{{'A', 'Z'}, 1, 32},     {{0xC0, 0xD6}, 1, 32},     {{0xD8, 0xDE}, 1, 32},
                {{0x100, 0x12E}, 2, 1},  {{0x132, 0x136}, 2, 1},    {{0x139, 0x147}, 2, 1},
                {{0x14A, 0x176}, 2, 1},  {{0x178, 0x178}, 1, -121}, {{0x179, 0x17D}, 2, 1},
                {{0x1CD, 0x1DB}, 2, 1},  {{0x1DE, 0x1EE}, 2, 1},    {{0x1F8, 0x21E}, 2, 1},
                {{0x222, 0x232}, 2, 1},  {{0x48A, 0x4BE}, 2, 1},    {{0x4C1, 0x4CD}, 2, 1},
                {{0x4D0, 0x52E}, 2, 1},  {{0x386, 0x386}, 1, 38},   {{0x388, 0x38A}, 1, 37},
                {{0x38C, 0x38C}, 1, 64}, {{0x38E, 0x38F}, 1, 63},   {{0x391, 0x3A1}, 1, 32},
                {{0x3A3, 0x3AB}, 1, 32}, {{0x400, 0x40F}, 1, 80},   {{0x410, 0x42F}, 1, 32},
                {{0x460, 0x480}, 2, 1},  {{0x1E00, 0x1E94}, 2, 1},  {{0x1EA0, 0x1EFE}, 2, 1}};

static bool is_in(uint32_t code, const range *ranges, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (code >= ranges[i].first && code <= ranges[i].last) return true;
    return false;
}

static bool is_blank(uint32_t code) { return is_in(code, blanks, sizeof blanks / sizeof *blanks); }

static bool is_letter_or_digit(uint32_t code) {
    if (code < 0x80)
        return (code >= '0' && code <= '9') || (code >= 'a' && code <= 'z') ||
               (code >= 'A' && code <= 'Z');
    return !is_blank(code) && !is_in(code, symbols, sizeof symbols / sizeof *symbols);
}

static bool is_ascii_punctuation(uint32_t code) {
    return code > ' ' && code < 0x7F && !is_letter_or_digit(code);
}

static uint32_t lowered(uint32_t code) {
    for (size_t i = 0; i < sizeof capitals / sizeof *capitals; i++) {
        const range *of = &capitals[i].capitals;
        if (code >= of->first && code <= of->last &&
            (code - of->first) % (uint32_t)capitals[i].step == 0)
            return (uint32_t)((int64_t)code + capitals[i].distance);
    }
    return code;
}

/* The character at bytes[*at], which moves behind it; a byte that begins none is U+FFFD. */
static uint32_t next_character(qzo_text text, size_t *at) {
    uint32_t first = text.bytes[(*at)++];
    size_t more = first >= 0xF0 && first < 0xF5   ? 3
                  : first >= 0xE0 && first < 0xF0 ? 2
                  : first >= 0xC2 && first < 0xE0 ? 1
                                                  : 0;
    if (more == 0) return first < 0x80 ? first : 0xFFFD;
    uint32_t code = first & (0x3Fu >> more);
    if (text.size_bytes - *at < more) return 0xFFFD;
    for (size_t i = 0; i < more; i++) {
        uint32_t byte = text.bytes[*at + i];
        if ((byte & 0xC0) != 0x80) return 0xFFFD;
        code = code << 6 | (byte & 0x3Fu);
    }
    *at += more;
    return code;
}

/* Writes what took `size` bytes as a character of as many: small letters are as long as capitals.
 */
static void put_character(uint8_t *out, uint32_t code, size_t size) {
    static const uint8_t leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = size; i-- > 1; code >>= 6) out[i] = (uint8_t)(0x80 | (code & 0x3F));
    out[0] = (uint8_t)(leads[size] | code);
}

/* --- normalising --- */

static bool is_article(const uint8_t *word, size_t size_bytes) {
    return (size_bytes == 1 && word[0] == 'a') || (size_bytes == 2 && memcmp(word, "an", 2) == 0) ||
           (size_bytes == 3 && memcmp(word, "the", 3) == 0);
}

/* Lower case, without punctuation. */
static size_t lower_and_strip(uint8_t *out, qzo_text text) {
    size_t count = 0;
    for (size_t at = 0; at < text.size_bytes;) {
        size_t begin = at;
        uint32_t code = next_character(text, &at);
        if (is_ascii_punctuation(code)) continue;
        uint32_t small = lowered(code);
        if (small == code)
            memmove(out + count, text.bytes + begin, at - begin);
        else
            put_character(out + count, small, at - begin);
        count += at - begin;
    }
    return count;
}

qzo_text qzo_text_normalised(uint8_t *room, qzo_text text) {
    const qzo_text stripped = {room, lower_and_strip(room, text)};
    size_t out = 0;
    bool wants_blank = false;
    for (size_t at = 0; at < stripped.size_bytes;) {
        /* A run of letters and digits, or one other character. */
        size_t begin = at, end = at;
        uint32_t code = next_character(stripped, &at);
        bool is_word = is_letter_or_digit(code);
        for (end = at; is_word && at < stripped.size_bytes; end = at) {
            code = next_character(stripped, &at);
            if (!is_letter_or_digit(code)) break;
        }
        at = end;
        bool leaves = is_word ? is_article(room + begin, end - begin) : is_blank(code);
        if (leaves) {
            wants_blank = true;
            continue;
        }
        if (wants_blank && out > 0) room[out++] = ' ';
        wants_blank = false;
        memmove(room + out, room + begin, end - begin);
        out += end - begin;
    }
    return (qzo_text){room, out};
}

/* --- scores --- */

static bool is_equal(qzo_text a, qzo_text b) {
    return a.size_bytes == b.size_bytes &&
           (a.size_bytes == 0 || memcmp(a.bytes, b.bytes, a.size_bytes) == 0);
}

/* The word at *at of a normalised text, which moves behind it; false behind the last one. */
static bool next_word(qzo_text *word, qzo_text text, size_t *at) {
    if (*at >= text.size_bytes) return false;
    const uint8_t *begin = text.bytes + *at;
    const uint8_t *blank = memchr(begin, ' ', text.size_bytes - *at);
    word->bytes = begin;
    word->size_bytes = blank != NULL ? (size_t)(blank - begin) : text.size_bytes - *at;
    *at += word->size_bytes + 1;
    return true;
}

/* How often the word stands in the first end_bytes of the text. */
static int64_t occurrences(qzo_text text, size_t end_bytes, qzo_text word) {
    int64_t count = 0;
    qzo_text other;
    for (size_t at = 0; at < end_bytes && next_word(&other, text, &at);)
        count += is_equal(word, other);
    return count;
}

static int64_t word_count(qzo_text text) {
    int64_t count = 0;
    qzo_text word;
    for (size_t at = 0; next_word(&word, text, &at);) count++;
    return count;
}

double qzo_text_f1(qzo_text answer, qzo_text reference) {
    int64_t shared = 0;
    qzo_text word;
    /* The n-th of equal words is shared where the reference has n of them, too. */
    for (size_t at = 0, begin = 0; next_word(&word, answer, &at); begin = at)
        shared +=
            occurrences(answer, begin, word) < occurrences(reference, reference.size_bytes, word);
    if (shared == 0) return 0.0;
    double precision = (double)shared / (double)word_count(answer);
    double recall = (double)shared / (double)word_count(reference);
    return 2.0 * precision * recall / (precision + recall);
}

double qzo_text_exact_match(qzo_text answer, qzo_text reference) {
    return is_equal(answer, reference) ? 1.0 : 0.0;
}
