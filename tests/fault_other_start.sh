# ctest: timeout=60
# A journal that starts from other values than the model's, with a right checksum: nothing is taken
# from it, its trial waits, and the exit code says so.
source "$(dirname "${BASH_SOURCE[0]}")/process_support.sh"
need_program
need_python xxhash

write_sweep start.yaml "steps: 4, batch: 8" "learning_rate: { values: [1e-5, 1e-4] }"
run 0 "$QZO" run start.yaml --out start
run 0 "$QZO" report start --csv
journal=start/trials/$(column stdout id | head -n 1).qzj
"$python" - "$journal" <<'PY' || fail "$journal was not changed"
import struct, sys, xxhash
data = open(sys.argv[1], "rb").read()
kind, size = struct.unpack_from("<II", data, 8)
frame = bytearray(data[8:16 + size])
frame[8 + 64] ^= 1  # the digest of the initial values
checksum = xxhash.xxh3_64(bytes(frame)).intdigest()
open(sys.argv[1], "wb").write(data[:8] + frame + struct.pack("<Q", checksum))
PY
cp "$journal" changed
run 1 "$QZO" run start.yaml --out start
says stderr 'the journal starts from 2560 values with digest'
same changed "$journal" "the journal after another run"
