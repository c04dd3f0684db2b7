/* Which build this is. The commit alone does not tell: what was changed since, compiler and options
 * differ too. The linker writes a digest of what it has linked into the program, which stays when
 * the program is copied or installed. */
#include "cli/cli.h"

#include <elf.h>
#include <link.h>
#include <string.h>

enum { ID_BYTES = 8, NOTE_ALIGNMENT = 4 };

static size_t padded(size_t size) { return (size + NOTE_ALIGNMENT - 1) & ~(size_t)3; }

/* Looks through one segment of notes for the linker's. */
static void read_notes(char out[QZO_BUILD_ID_BYTES], const uint8_t *at, size_t size) {
    static const char owner[] = "GNU";
    ElfW(Nhdr) note;
    while (size >= sizeof note) {
        memcpy(&note, at, sizeof note);
        size_t name = padded(note.n_namesz), all = sizeof note + name + padded(note.n_descsz);
        if (all > size) return;
        bool is_id = note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof owner &&
                     memcmp(at + sizeof note, owner, sizeof owner) == 0;
        for (size_t i = 0; is_id && i < ID_BYTES && i < note.n_descsz; i++)
            snprintf(out + 2 * i, 3, "%02x", at[sizeof note + name + i]);
        at += all;
        size -= all;
    }
}

/* The first object is the program itself. */
static int read_program(struct dl_phdr_info *object, size_t size, void *out) {
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        ElfW(Addr) address = object->dlpi_addr + segment->p_vaddr;
        if (segment->p_type == PT_NOTE) read_notes(out, (const uint8_t *)address, segment->p_memsz);
    }
    return 1;
}

const char *qzo_build_id(void) {
    static char id[QZO_BUILD_ID_BYTES];
    if (id[0] == '\0') {
        snprintf(id, sizeof id, "unknown"); /* a linker that writes none */
        dl_iterate_phdr(read_program, id);
    }
    return id;
}

const char *qzo_build_text(void) {
    static char text[QZO_BUILD_TEXT_BYTES];
    snprintf(text, sizeof text, "%s %s, build %s, %s", QZO_VERSION, QZO_COMMIT, qzo_build_id(),
             QZO_COMPILER);
    return text;
}
