/* qzo completion bash|zsh: a script that teaches the shell the commands and their options.
 *
 * Both scripts are made of the tables in options.c, so they cannot drift from the parser. The bash
 * script is a table and a small interpreter of it; zsh has one of its own, _arguments. */
#include "cli/cli.h"

#include <string.h>

/* What completes an argument: files that match a pattern, or folders ("/"). Other arguments are
 * one of the words that `|` divides, or cannot be guessed. */
static const struct {
    const char *argument, *pattern;
} patterns[] = {
    {"DIR", "/"},  {"MODEL", "/"},           {"PATH", "/"},
    {"FILE", "*"}, {"SWEEP.yaml", "*.y*ml"}, {"TASK...", "*.qzt"},
};

static const char *pattern_of(const char *argument, size_t length) {
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (strlen(patterns[i].argument) == length &&
            memcmp(patterns[i].argument, argument, length) == 0)
            return patterns[i].pattern;
    return NULL;
}

/* --- bash --- */

static void print_bash_kind(const char *argument, size_t length) {
    const char *pattern = pattern_of(argument, length);
    if (pattern != NULL)
        printf("%s", pattern);
    else if (memchr(argument, '|', length) != NULL)
        printf("%.*s", (int)length, argument);
    else
        printf("?");
}

/* Where the shell is: in the words of `qzo`, in an option's value, or in the n-th argument. */
static const char BASH_END[] =
    "    *) return ;;\n"
    "    esac\n"
    "    for option in \"${options[@]}\"; do\n"
    "        if [[ $option == \"$before=\"* ]]; then kind=${option#*=}; fi\n"
    "    done\n"
    "    if [[ -z $kind && $word == -* ]]; then\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"${options[*]%%=*}\" -- \"$word\")\n"
    "        return\n"
    "    fi\n"
    "    if [[ -z $kind ]]; then\n"
    "        for ((i = 2; i < COMP_CWORD; i++)); do\n"
    "            if [[ ${COMP_WORDS[i]} != -* ]]; then\n"
    "                place=$((place + 1))\n"
    "                continue\n"
    "            fi\n"
    "            if [[ ${COMP_WORDS[i + 1]} == = ]]; then i=$((i + 1)); fi\n"
    "            for option in \"${options[@]}\"; do\n"
    "                if [[ $option == \"${COMP_WORDS[i]}=\"* || ${COMP_WORDS[i]} == = ]]; then\n"
    "                    i=$((i + 1))\n"
    "                    break\n"
    "                fi\n"
    "            done\n"
    "        done\n"
    "        kind=${arguments[place]}\n"
    "    fi\n"
    "    case $kind in\n"
    "    '' | '?') ;;\n"
    "    *'|'*) mapfile -t COMPREPLY < <(compgen -W \"${kind//|/ }\" -- \"$word\") ;;\n"
    "    /)\n"
    "        compopt -o filenames 2>/dev/null\n"
    "        mapfile -t COMPREPLY < <(compgen -d -- \"$word\")\n"
    "        ;;\n"
    "    *)\n"
    "        compopt -o filenames 2>/dev/null\n"
    "        mapfile -t COMPREPLY < <({\n"
    "            compgen -d -- \"$word\"\n"
    "            compgen -f -X \"!$kind\" -- \"$word\"\n"
    "        } | sort -u)\n"
    "        ;;\n"
    "    esac\n"
    "}\n"
    "complete -F _qzo qzo\n";

static void print_bash_command(const qzo_command *command) {
    qzo_option_view option;
    printf("    %s)\n        options=(", command->name);
    for (int i = 0; qzo_options_at(&option, command, i); i++) {
        printf("%s'--%s", i > 0 ? " " : "", option.name);
        if (option.argument != NULL) {
            printf("=");
            print_bash_kind(option.argument, strlen(option.argument));
        }
        printf("'");
    }
    printf(")\n        arguments=(");
    for (const char *at = command->arguments; *at != '\0'; at += strspn(at, " ")) {
        size_t length = strcspn(at, " ");
        printf("%s'", at > command->arguments ? " " : "");
        print_bash_kind(at, length);
        printf("'");
        at += length;
    }
    printf(")\n        ;;\n");
}

static void print_bash(void) {
    printf("# Completion of qzo for bash; made by `qzo completion bash`.\n"
           "_qzo() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
           "    local options=() arguments=() option kind= place=0 i\n"
           "    COMPREPLY=()\n"
           "    # bash takes --option=value apart at the equals sign.\n"
           "    if [[ $before == = ]]; then before=${COMP_WORDS[COMP_CWORD - 2]}; fi\n"
           "    if [[ $word == = ]]; then word=; fi\n"
           "    if ((COMP_CWORD == 1)); then\n"
           "        mapfile -t COMPREPLY < <(compgen -W \"");
    for (const qzo_command *at = qzo_commands; at->name != NULL; at++) printf("%s ", at->name);
    printf("--help --version\" -- \"$word\")\n"
           "        return\n"
           "    fi\n"
           "    case ${COMP_WORDS[1]} in\n");
    for (const qzo_command *at = qzo_commands; at->name != NULL; at++) print_bash_command(at);
    fputs(BASH_END, stdout);
}

/* --- zsh --- */

/* Inside single quotes, with backslashes before what _arguments or _describe would read. */
static void print_zsh_text(const char *text, size_t length, const char *special) {
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\'') {
            printf("'\\''");
            continue;
        }
        if (strchr(special, text[i]) != NULL) printf("\\");
        printf("%c", text[i]);
    }
}

/* ":MESSAGE:ACTION" of _arguments. */
static void print_zsh_argument(const char *argument, size_t length) {
    const char *pattern = pattern_of(argument, length);
    bool is_choice = memchr(argument, '|', length) != NULL;
    printf(":");
    print_zsh_text(argument, length, ":\\");
    printf(":");
    if (pattern != NULL && strcmp(pattern, "/") == 0)
        printf("_files -/");
    else if (pattern != NULL)
        printf("_files -g \"%s\"", pattern);
    if (!is_choice) return;
    printf("(");
    for (size_t i = 0; i < length; i++) printf("%c", argument[i] == '|' ? ' ' : argument[i]);
    printf(")");
}

static void print_zsh_command(const qzo_command *command) {
    qzo_option_view option;
    printf("    %s)\n        _arguments", command->name);
    for (int i = 0; qzo_options_at(&option, command, i); i++) {
        printf(" \\\n            '--%s%s[", option.name, option.argument != NULL ? "=" : "");
        print_zsh_text(option.help, strlen(option.help), "[]\\");
        printf("]");
        if (option.argument != NULL) print_zsh_argument(option.argument, strlen(option.argument));
        printf("'");
    }
    for (const char *at = command->arguments; *at != '\0'; at += strspn(at, " ")) {
        size_t length = strcspn(at, " ");
        printf(" \\\n            '");
        print_zsh_argument(at, length);
        printf("'");
        at += length;
    }
    printf("\n        ;;\n");
}

/* Both ways of use: autoloaded from a folder of $fpath, where the file is the function's body, and
 * read by `source`. */
static void print_zsh(void) {
    printf("#compdef qzo\n"
           "# Completion of qzo for zsh; made by `qzo completion zsh`.\n"
           "_qzo() {\n"
           "    local -a commands\n"
           "    commands=(\n");
    for (const qzo_command *at = qzo_commands; at->name != NULL; at++) {
        printf("        '%s:", at->name);
        print_zsh_text(at->help, strlen(at->help), "\\");
        printf("'\n");
    }
    printf("    )\n"
           "    if ((CURRENT == 2)); then\n"
           "        _describe command commands\n"
           "        _arguments '--help[print this help]' '--version[print the version]'\n"
           "        return\n"
           "    fi\n"
           "    shift words\n"
           "    ((CURRENT--))\n"
           "    case $words[1] in\n");
    for (const qzo_command *at = qzo_commands; at->name != NULL; at++) print_zsh_command(at);
    printf("    esac\n"
           "}\n"
           "if [[ $funcstack[1] == _qzo ]]; then\n"
           "    _qzo \"$@\"\n"
           "else\n"
           "    compdef _qzo qzo\n"
           "fi\n");
}

int qzo_cmd_completion(const qzo_options *options) {
    if (strcmp(options->shell_name, "bash") == 0)
        print_bash();
    else
        print_zsh();
    return qzo_exit_report(QZO_OK, options);
}
