# ctest: timeout=120
# The text of token ids, for each kind of tokenizer.json, and what `generate` refuses.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python3
fixtures=$QZO_SOURCE/tests/fixtures
cp -rL "$fixtures/tiny-llama" model
chmod -R u+w model

# shows EXPECTED ID...: these ids and the one that follows print EXPECTED at the front.
shows() {
    local expected=$1
    shift
    printf '%s ' "$@" >ids
    run 0 "$QZO" generate model --ids ids --max-new 1
    printf '%s' "$expected" >expected
    cmp -s -n "$(stat -c %s expected)" expected stdout ||
        fail "ids $*: expected '$expected', found '$(<stdout)'"
}

# --- whole words: the fixture's own ---------------------------------------------------------------
word() { python3 -c 'import json, sys
vocab = json.load(open(sys.argv[1]))["model"]["vocab"]
print(next(token for token, index in vocab.items() if index == int(sys.argv[2])))' \
    model/tokenizer.json "$1"; }
shows "$(word 5) $(word 6) $(word 5)" 1 5 6 2 5

# --- SentencePiece --------------------------------------------------------------------------------
cat >model/tokenizer.json <<'JSON'
{"added_tokens": [{"id": 1, "content": "<s>", "special": true},
                  {"id": 9, "content": "<plain>", "special": false}],
 "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
 "pre_tokenizer": null,
 "model": {"type": "BPE", "vocab": {"<unk>": 0, "<s>": 1, "▁Hello": 2, "▁": 3, "<0xC3>": 4,
                                    "<0xA9>": 5, "é": 6, "▁a▁b": 7, "<0xZZ>": 8, "<plain>": 9}}}
JSON
shows 'Hello Hello' 1 2 2
shows ' Hello' 3 2
shows 'é' 4 5
shows 'Hello a bé<plain><0xZZ>' 1 2 7 6 9 8

# --- Unigram --------------------------------------------------------------------------------------
cat >model/tokenizer.json <<'JSON'
{"added_tokens": [], "decoder": {"type": "Metaspace"},
 "model": {"type": "Unigram", "vocab": [["<unk>", 0], ["▁x", -1.5], ["y", -2]]}}
JSON
shows 'xy x' 1 2 1

# --- byte-level BPE -------------------------------------------------------------------------------
cat >model/tokenizer.json <<'JSON'
{"added_tokens": [{"id": 9, "content": "<|end|>", "special": true}],
 "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]}, "decoder": null,
 "model": {"type": "BPE", "vocab": {"Hello": 0, "Ġworld": 1, "Ċ": 2, "Ã©": 3, "ĉ": 4, "Ń": 5}}}
JSON
shows 'Hello world' 0 1 9
shows ' world' 1
shows $'é\tHello' 3 4 0
run 0 "$QZO" generate model --ids <(printf '2,5') --max-new 1
[[ $(head -c 2 stdout | od -An -tx1 | tr -d ' ') == 0aad ]] || fail "bytes of U+010A and U+0143"

# --- without a tokenizer, or on demand: ids -------------------------------------------------------
printf '5, 6\n7' >ids
run 0 "$QZO" generate model --ids ids --max-new 3 --print-ids
[[ $(<stdout) =~ ^5\ 6\ 7(\ [0-9]+){3}$ ]] || fail "ids: $(<stdout)"
cp stdout with
rm model/tokenizer.json
run 0 "$QZO" generate model --ids ids --max-new 3
same with stdout "ids without a tokenizer"

# Greedy text does not depend on how it is cut into calls.
tr -d '\n' <with >longer
run 0 "$QZO" generate model --ids longer --max-new 2
cp stdout in_two_calls
run 0 "$QZO" generate model --ids ids --max-new 5
same in_two_calls stdout "ids in one call and in two"

# --- what is refused ------------------------------------------------------------------------------
refused() {
    local pattern=$1
    shift
    run 2 "$QZO" generate model --max-new 2 "$@"
    says stderr "$pattern"
}
refused 'absent' --ids absent
: >empty
refused 'empty: no ids' --ids empty
printf '1 2 x' >bad
refused 'bad: expected decimal ids' --ids bad
printf '1 64' >bad
refused 'id 2 is 64, the vocabulary of model has 64' --ids bad
printf '1 99999999999' >bad
refused 'bad: id 2 is too large' --ids bad
seq 64 | sed 's/64/1/' >bad
refused '64 ids and 2 new ones need 65 positions, the model has 64' --ids bad
printf '{"added_tokens": [], "model": {"type": "BPE", "vocab": {"a": "b"}}}' >model/tokenizer.json
refused 'tokenizer\.json.*integer id' --ids ids
printf '{' >model/tokenizer.json
refused 'tokenizer\.json.*malformed' --ids ids

# --- several prompts, stops and draws -------------------------------------------------------------
cp "$fixtures/tiny-llama/tokenizer.json" model/tokenizer.json
seq 3 3 60 | paste -sd' ' | tee one >lines
printf '\n%s\n7\n' "5, 6 7" >>lines
printf '5 6 7\n' >two
printf '7\n' >three
for each in one two three; do
    run 0 "$QZO" generate model --ids "$each" --max-new 8 --print-ids
    cat stdout >>by_one
done
run 0 "$QZO" generate model --ids lines --each-line --max-new 8 --print-ids
same by_one stdout "ids of three prompts together and one by one"
run 0 "$QZO" generate model --ids lines --each-line --max-new 8 --print-ids --temperature 2 --seed 7
cp stdout drawn
run 0 "$QZO" generate model --ids lines --each-line --max-new 8 --print-ids --temperature 2 \
    --seed 7 --threads 3
same drawn stdout "ids drawn with the same seed"
run 0 "$QZO" generate model --ids lines --each-line --max-new 8 --print-ids --temperature 2 --seed 8
cmp -s drawn stdout && fail "another seed draws the same ids"
run 0 "$QZO" generate model --ids lines --each-line --max-new 8 --print-ids --temperature 2 \
    --top-k 1
same by_one stdout "ids drawn among one"
run 0 "$QZO" generate model --ids lines --each-line --max-new 8 --print-ids --temperature 2 \
    --top-p 0.000001
same by_one stdout "ids drawn among the fewest that reach next to nothing"

warm=(--ids two --max-new 12 --temperature 5 --seed 3)
run 0 "$QZO" generate model "${warm[@]}"
eighth=$(cut -d' ' -f8 stdout)
cut -d' ' -f1-7 stdout >before
[[ -n $eighth && " $(<before) " != *" $eighth "* ]] || fail "the eighth word is not new: $(<stdout)"
run 0 "$QZO" generate model "${warm[@]}" --stop " $eighth"
same before stdout "text before the stop"
printf '{"added_tokens": [], "model": {"type": "Unigram", "vocab": %s}}' "$(python3 -c '
print(str([["▁w%d" % i if i % 2 else "\n", 0] for i in range(64)]).replace(chr(39), chr(34)))')" \
    >model/tokenizer.json
run 0 "$QZO" generate model --ids three --max-new 30
[[ $(wc -l <stdout) -gt 1 ]] || fail "the fixture writes no line end: $(<stdout)"
head -n 1 stdout >line
run 0 "$QZO" generate model --ids three --max-new 30 --stop '\n'
same line stdout "text before the line's end"
rm model/tokenizer.json
refused '\-\-stop.*model has no tokenizer\.json' --ids ids --stop x
refused '\-\-top-p: expected a number from 0 to 1, found' --ids ids --top-p 1.5
refused '\-\-temperature: expected a number from 0 to 1000, found' --ids ids --temperature hot
for setting in "--top-k 3" "--top-p 0.5" "--seed 0" "--seed 7 --temperature 0"; do
    refused "${setting%% *}: expected a --temperature above 0 beside it" --ids ids $setting
done
