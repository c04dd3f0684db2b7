/* F1 and exact match of pairs of texts, for unit_text_scores.sh: standard input has a pair on every
 * line, a tab between; in them \xHH stands for a byte. Prints "%.17g %g" per line. */
#include "task/text_score.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* escaped becomes its bytes, in place; the caller frees the room. */
static qzo_text normalised_of(char *escaped, uint8_t **room) {
    uint8_t *out = (uint8_t *)escaped;
    size_t count = 0;
    for (const char *at = escaped; *at != '\0'; at++) {
        out[count] = (uint8_t)*at;
        if (at[0] == '\\' && at[1] == 'x') {
            const char digits[3] = {at[2], at[3], '\0'};
            out[count] = (uint8_t)strtoul(digits, NULL, 16);
            at += 3;
        }
        count++;
    }
    *room = malloc(count + 1);
    return qzo_text_normalised(*room, (qzo_text){out, count});
}

int main(void) {
    char *line = NULL;
    size_t room_bytes = 0;
    while (getline(&line, &room_bytes, stdin) > 0) {
        uint8_t *rooms[2] = {NULL, NULL};
        char *second = strchr(line, '\t');
        line[strcspn(line, "\n")] = '\0';
        if (second == NULL) return 1;
        *second++ = '\0';
        qzo_text answer = normalised_of(line, &rooms[0]);
        qzo_text reference = normalised_of(second, &rooms[1]);
        printf("%.17g %g\n", qzo_text_f1(answer, reference),
               qzo_text_exact_match(answer, reference));
        free(rooms[0]);
        free(rooms[1]);
    }
    free(line);
    return 0;
}
