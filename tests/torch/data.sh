# Sourced by the tests of whole runs: made-up data, in ./data.
make_idx() { # NAME COUNT COUNT-IN-OCTAL: noise as images, the classes in turn
    { printf '\0\0\10\3\0\0'"$3"'\0\0\0\34\0\0\0\34'; head -c $(($2 * 784)) /dev/urandom; } >"data/$1-images-idx3-ubyte"
    { printf '\0\0\10\1\0\0'"$3"
      i=0
      while [ $i -lt "$2" ]; do printf '\0\1\2\3\4\5\6\7\10\11'; i=$((i + 10)); done; } >"data/$1-labels-idx1-ubyte"
}

make_data() { # 480 training images and 60 to test with
    mkdir -p data
    make_idx train 480 '\1\340'
    make_idx t10k 60 '\0\74'
}

failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}
