#include "cli/pieces.h"

#include "base/file_io.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 512 << 20, ID_MAX = 1 << 22, BYTE_PIECE_LENGTH = 6 };

typedef enum { KIND_SENTENCE_PIECE, KIND_BYTE_LEVEL, KIND_WORDS } piece_kind;

typedef struct piece {
    uint8_t *bytes; /* the text; NULL: none */
    size_t size_bytes;
} piece;

struct qzo_pieces {
    piece_kind kind;
    piece *pieces;
    int64_t piece_count;
};

/* --- one character --- */

/* The code point at *at, which moves behind it. jansson has checked that the text is UTF-8. */
static uint32_t next_character(const char **at) {
    const unsigned char *byte = (const unsigned char *)*at;
    int more = byte[0] >= 0xF0 ? 3 : byte[0] >= 0xE0 ? 2 : byte[0] >= 0xC0 ? 1 : 0;
    uint32_t code = more == 0 ? byte[0] : byte[0] & (0x3Fu >> more);
    for (int i = 1; i <= more; i++) code = code << 6 | (byte[i] & 0x3Fu);
    *at += more + 1;
    return code;
}

/* Whether byte-level BPE writes this byte as the character of the same number; the others follow
 * from U+0100 in ascending order. */
static bool stands_for_itself(int byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* The byte that a character of a byte-level piece stands for, -1 where it stands for none. */
static int byte_of_character(uint32_t code) {
    if (code < 256) return stands_for_itself((int)code) ? (int)code : -1;
    uint32_t number = 256;
    for (int byte = 0; byte < 256; byte++)
        if (!stands_for_itself(byte) && number++ == code) return byte;
    return -1;
}

/* --- one piece --- */

/* Text of a byte-level piece; a character that stands for no byte is dropped. */
static size_t decode_byte_level(uint8_t *out, const char *text) {
    size_t count = 0;
    while (*text != '\0') {
        int byte = byte_of_character(next_character(&text));
        if (byte >= 0) out[count++] = (uint8_t)byte;
    }
    return count;
}

static bool is_byte_piece(const char *text) {
    return strlen(text) == BYTE_PIECE_LENGTH && strncmp(text, "<0x", 3) == 0 && text[5] == '>' &&
           strspn(text + 3, "0123456789abcdefABCDEF") == 2;
}

static size_t decode_sentence_piece(uint8_t *out, const char *text) {
    static const char space[] = "\xE2\x96\x81"; /* U+2581 */
    if (is_byte_piece(text)) {
        out[0] = (uint8_t)strtoul(text + 3, NULL, 16);
        return 1;
    }
    size_t count = 0;
    while (*text != '\0') {
        bool is_space = strncmp(text, space, sizeof space - 1) == 0;
        out[count++] = is_space ? ' ' : (uint8_t)*text;
        text += is_space ? sizeof space - 1 : 1;
    }
    return count;
}

/* Stores what an id prints. A literal text is kept as it is; NULL prints nothing. */
static qzo_status store(qzo_pieces *pieces, int64_t id, const char *text, bool literal,
                        const char *path) {
    if (id < 0 || id > ID_MAX)
        return qzo_fail(QZO_ERR_FORMAT, "%s: token id %lld, expected 0 .. %d", path, (long long)id,
                        ID_MAX);
    if (id >= pieces->piece_count) {
        int64_t count = 2 * id + 256;
        piece *grown = realloc(pieces->pieces, (size_t)count * sizeof *grown);
        if (grown == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
        memset(grown + pieces->piece_count, 0,
               (size_t)(count - pieces->piece_count) * sizeof *grown);
        pieces->pieces = grown;
        pieces->piece_count = count;
    }
    piece *at = &pieces->pieces[id];
    free(at->bytes);
    *at = (piece){0};
    if (text == NULL) return QZO_OK;
    size_t blank =
        pieces->kind == KIND_WORDS && text[0] != 0; /* splitting at blanks took them away */
    at->bytes = malloc(strlen(text) + 2);           /* no decoding makes a text longer */
    if (at->bytes == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", path);
    if (literal || pieces->kind == KIND_WORDS) {
        at->bytes[0] = ' ';
        at->size_bytes = blank + strlen(text);
        memcpy(at->bytes + blank, text, strlen(text));
    } else {
        at->size_bytes = pieces->kind == KIND_BYTE_LEVEL ? decode_byte_level(at->bytes, text)
                                                         : decode_sentence_piece(at->bytes, text);
    }
    return QZO_OK;
}

/* --- the file --- */

/* Whether a description of a decoder or pre-tokenizer has a part of this type, nested or not. The
 * depth is bounded by jansson's own limit. */
static bool has_part(const json_t *value, const char *type) {
    const json_t *part;
    const char *key;
    size_t index;
    if (json_is_array(value)) {
        json_array_foreach(value, index, part) if (has_part(part, type)) return true;
        return false;
    }
    if (!json_is_object(value)) return false;
    const char *own = json_string_value(json_object_get(value, "type"));
    if (own != NULL && strcmp(own, type) == 0) return true;
    for (void *at = json_object_iter((json_t *)(uintptr_t)value); at != NULL;
         at = json_object_iter_next((json_t *)(uintptr_t)value, at)) {
        key = json_object_iter_key(at);
        if (key != NULL && has_part(json_object_iter_value(at), type)) return true;
    }
    return false;
}

/* model.vocab: {piece: id}, or [[piece, score], ...] in the order of the ids. */
static qzo_status read_vocabulary(qzo_pieces *pieces, const json_t *vocabulary, const char *path) {
    qzo_status status = QZO_OK;
    if (json_is_array(vocabulary)) {
        for (size_t i = 0; i < json_array_size(vocabulary); i++) {
            const char *text = json_string_value(json_array_get(json_array_get(vocabulary, i), 0));
            QZO_TRY(store(pieces, (int64_t)i, text, false, path));
        }
        return QZO_OK;
    }
    if (!json_is_object(vocabulary))
        return qzo_fail(QZO_ERR_FORMAT, "%s: expected model.vocab, an object or a list", path);
    json_t *object = (json_t *)(uintptr_t)vocabulary; /* jansson iterates over non-const only */
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        const json_t *id = json_object_iter_value(at);
        if (!json_is_integer(id))
            return qzo_fail(QZO_ERR_FORMAT, "%s: a token of model.vocab has no integer id", path);
        QZO_TRY(store(pieces, json_integer_value(id), json_object_iter_key(at), false, path));
    }
cleanup:
    return status;
}

static qzo_status read_added(qzo_pieces *pieces, const json_t *added, const char *path) {
    qzo_status status = QZO_OK;
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        bool special = json_is_true(json_object_get(token, "special"));
        int64_t id = 0;
        QZO_TRY(qzo_json_int(&id, token, "id", 0, ID_MAX, path));
        QZO_TRY(store(pieces, id,
                      special ? NULL : json_string_value(json_object_get(token, "content")), true,
                      path));
    }
cleanup:
    return status;
}

qzo_status qzo_pieces_load(qzo_pieces **out, const char *model_path) {
    qzo_status status = QZO_OK;
    json_t *root = NULL;
    qzo_pieces *pieces = calloc(1, sizeof *pieces);
    char *path = qzo_path_join(model_path, "tokenizer.json");
    *out = NULL;
    if (pieces == NULL || path == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", model_path);
        goto cleanup;
    }
    status = qzo_json_read(&root, path, FILE_BYTES_MAX);
    if (status == QZO_ERR_NOT_FOUND) {
        status = QZO_OK;
        goto cleanup;
    }
    if (status != QZO_OK) goto cleanup;
    const json_t *model = json_object_get(root, "model");
    const char *type = json_string_value(json_object_get(model, "type"));
    bool byte_level = has_part(json_object_get(root, "decoder"), "ByteLevel") ||
                      has_part(json_object_get(root, "pre_tokenizer"), "ByteLevel");
    pieces->kind = type != NULL && strcmp(type, "WordLevel") == 0 ? KIND_WORDS
                   : byte_level                                   ? KIND_BYTE_LEVEL
                                                                  : KIND_SENTENCE_PIECE;
    QZO_TRY(read_vocabulary(pieces, json_object_get(model, "vocab"), path));
    QZO_TRY(read_added(pieces, json_object_get(root, "added_tokens"), path));
    *out = pieces;
    pieces = NULL;
cleanup:
    json_decref(root);
    free(path);
    qzo_pieces_free(pieces);
    return status;
}

/* --- a GGUF file --- */

/* llama.cpp's kinds of tokens that print nothing, and those that are taken as they are. */
enum { TOKEN_UNKNOWN = 2, TOKEN_CONTROL = 3, TOKEN_USER = 4, TOKEN_UNUSED = 5 };

static qzo_status read_tokens(qzo_pieces *pieces, const qzo_gguf *file) {
    static const char types_key[] = "tokenizer.ggml.token_type";
    qzo_status status = QZO_OK;
    qzo_gguf_list tokens = {0}, types = {0};
    json_t *token = NULL; /* jansson checks that the text is UTF-8 */
    QZO_TRY(qzo_gguf_strings(&tokens, file, "tokenizer.ggml.tokens"));
    if (qzo_gguf_has(file, types_key)) QZO_TRY(qzo_gguf_ints(&types, file, types_key));
    for (int64_t id = 0; tokens.count > 0; id++) {
        const qzo_gguf_text text = qzo_gguf_next(&tokens);
        int32_t type = id < types.count ? qzo_gguf_int_at(&types, id) : 0;
        bool is_silent = type == TOKEN_UNKNOWN || type == TOKEN_CONTROL || type == TOKEN_UNUSED;
        token = is_silent ? NULL : json_stringn(text.text, text.size_bytes);
        QZO_TRY(
            store(pieces, id, json_string_value(token), type == TOKEN_USER, qzo_gguf_name(file)));
        json_decref(token);
        token = NULL;
    }
cleanup:
    json_decref(token);
    return status;
}

qzo_status qzo_pieces_of_gguf(qzo_pieces **out, const qzo_gguf *file) {
    qzo_status status = QZO_OK;
    qzo_gguf_text model;
    *out = NULL;
    if (!qzo_gguf_has(file, "tokenizer.ggml.model")) return QZO_OK;
    QZO_TRY(qzo_gguf_string(&model, file, "tokenizer.ggml.model"));
    bool is_byte_level = qzo_gguf_text_is(model, "gpt2");
    if (!is_byte_level && !qzo_gguf_text_is(model, "llama")) return QZO_OK;
    *out = calloc(1, sizeof **out);
    if (*out == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", qzo_gguf_name(file));
    (*out)->kind = is_byte_level ? KIND_BYTE_LEVEL : KIND_SENTENCE_PIECE;
    QZO_TRY(read_tokens(*out, file));
cleanup:
    if (status != QZO_OK) {
        qzo_pieces_free(*out);
        *out = NULL;
    }
    return status;
}

void qzo_pieces_free(qzo_pieces *pieces) {
    if (pieces == NULL) return;
    for (int64_t i = 0; i < pieces->piece_count; i++) free(pieces->pieces[i].bytes);
    free(pieces->pieces);
    free(pieces);
}

size_t qzo_pieces_text(const qzo_pieces *pieces, const uint8_t **bytes, int32_t id) {
    if (id < 0 || id >= pieces->piece_count) return 0;
    *bytes = pieces->pieces[id].bytes;
    return pieces->pieces[id].size_bytes;
}

void qzo_pieces_print(FILE *stream, const qzo_pieces *pieces, const int32_t *ids, int64_t count) {
    bool first = true;
    for (int64_t i = 0; i < count; i++) {
        const uint8_t *bytes = NULL;
        size_t size_bytes = qzo_pieces_text(pieces, &bytes, ids[i]);
        if (size_bytes == 0) continue;
        /* The first word of a text has no blank before it. */
        size_t skipped = first && pieces->kind != KIND_BYTE_LEVEL && bytes[0] == ' ';
        fwrite(bytes + skipped, 1, size_bytes - skipped, stream);
        first = false;
    }
}
