# ctest: timeout=300
# Greedy text of a real model, token by token as its reference recorded it, and its text as the
# reference tokenizer writes it.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
model=$QZO_TEST_DATA/models/stories260K
expected=$QZO_TEST_DATA/oracles/stories260K/greedy.ids201.i32
[[ -e $model/model.safetensors && -e $expected ]] || skip "no real model in $QZO_TEST_DATA"
new_count=200

# The first id is the prompt: as text and as the raw integer.
od -An -v -w4 -td4 "$expected" | tr -d ' ' | paste -sd' ' >expected.ids
head -c 4 "$expected" >prompt.i32
cut -d' ' -f1 expected.ids >prompt.txt
run 0 "$QZO" generate "$model" --ids prompt.i32 --max-new "$new_count" --print-ids
same expected.ids stdout "ids after $new_count tokens"

# The prompt as text, and any number of threads, give the same ids.
run 0 "$QZO" generate "$model" --ids prompt.txt --max-new 50 --print-ids --threads 3
cut -d' ' -f1-51 expected.ids >first.ids
same first.ids stdout "ids with 3 threads"

# All ids but the last as the prompt: the last one, and the whole text.
cut -d' ' -f1-200 expected.ids | tr ' ' ',' >most.txt
run 0 "$QZO" generate "$model" --ids most.txt --max-new 1
cp stdout text
says text '^Once upon a time, there was a little girl named Lily\. She loved to play outside'
says text "didn't want to help her mom, so she$"
says_not text '<s>|<0x'

run 2 "$QZO" generate "$model" --ids prompt.txt --max-new 100000
says stderr '512'
