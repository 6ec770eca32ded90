#!/usr/bin/env bash
# Installs the library: install.sh SHARED STATIC DESTDIR PREFIX LIBDIR INCLUDEDIR VERSION ABI PRIVATE_LIBRARIES
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
shared=$1 static=$2 dest=$3 prefix=$4 libdir=$5 includedir=$6 version=$7 abi=$8 private=$9

# CMake's file finds the rest from where it stands, so that the whole may be moved.
from_cmake() { realpath -m --relative-to="$libdir/cmake/memora" "$1"; }

fill() {
    sed -e "s|@PREFIX@|$prefix|g" -e "s|@LIBDIR@|$libdir|g" -e "s|@INCLUDEDIR@|$includedir|g" \
        -e "s|@VERSION@|$version|g" -e "s|@ABI@|$abi|g" -e "s|@PRIVATE@|$private|g" \
        -e "s|@LIBDIR_FROM_CMAKE@|$(from_cmake "$libdir")|g" \
        -e "s|@INCLUDEDIR_FROM_CMAKE@|$(from_cmake "$includedir")|g" "$1" >"$2"
    chmod 644 "$2"
}

install -d "$dest$libdir/pkgconfig" "$dest$libdir/cmake/memora" "$dest$includedir"
install -m 644 "$here/include/memora.h" "$here/include/memora.hpp" "$here/include/memora_feed.hpp" "$here/include/memora_log.hpp" \
    "$here/include/memora_service.hpp" \
    "$here/include/memora_signals.hpp" "$here/include/memora_topic.hpp" \
    "$here/include/memora_transaction.hpp" "$here/include/memora_snapshot.hpp" "$dest$includedir/"
install -m 755 "$shared" "$dest$libdir/libmemora.so.$version"
ln -sfn "libmemora.so.$version" "$dest$libdir/libmemora.so.$abi"
ln -sfn "libmemora.so.$abi" "$dest$libdir/libmemora.so"
install -m 644 "$static" "$dest$libdir/libmemora.a"
fill "$here/memora.pc.in" "$dest$libdir/pkgconfig/memora.pc"
fill "$here/cmake/memora-config.cmake.in" "$dest$libdir/cmake/memora/memora-config.cmake"
fill "$here/cmake/memora-config-version.cmake.in" "$dest$libdir/cmake/memora/memora-config-version.cmake"
echo "installed libmemora $version (soname libmemora.so.$abi) in $dest$prefix"
