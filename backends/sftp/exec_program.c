/* SPDX-License-Identifier: MIT
 * exec_program.c: what the shell on the far side is given. See sftp_shell.h.
 *
 * Only what dash, bash and BusyBox's ash have in common, and of the tools what GNU coreutils,
 * findutils and BusyBox do alike. Fd 3 is the way to us. Functions:
 *   tell STATUS                     the trailer
 *   run CMD ARGS                    runs it: $s, $e
 *   names DIR/                      a listing. Names that are gone by the time of stat are left out
 *   rd PATH OFFSET LENGTH           attributes, bytes or target; $x: attributes afterwards
 *   st OWNER MODE ATIME MTIME       of $p; '-': stays
 *   fin OWNER MODE ATIME MTIME      the same, the owner where it may be; made durable; $x:
 * attributes mk TEMP SIZE UMASK OWNER MODE ATIME MTIME         a new file of the bytes that follow
 *   pt PATH FORMAT EXPECTED BYTES [SEEK LENGTH]...    writes into a file; false: it has told
 *   mvr FROM TO, mvn FROM TO        rename, replacing or not; xd FROM DIR: both on one device?
 *   rms PATH...                     removes files, with a line of 64 bytes about each
 * `set -C` makes mk's file a new one; pt looks at its file, opens it once (bash loses its stdin
 * behind 1<>, hence fd 4). take SIZE [ARGS OF DD]          that many bytes of what follows the line
 */
#include "backends/sftp/exec_text.h"
#include "backends/sftp/sftp_shell.h"

#define TRAILER "printf '\\n%s %03d %-60.60s %-300.300s %-200.200s\\n' "

const char shell_program[] =
    "n='\n'\n"
    "LC_ALL=C LANGUAGE=C TZ=UTC0; export LC_ALL LANGUAGE TZ\n"
    "PATH=\"${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin\"; export PATH\n"
    "unset POSIXLY_CORRECT CDPATH\n"
    "H='" EXEC_STAT_FORMAT "'\n"
    "F=\"$H%n/\"\n"
    "G='e=$(stat -c \"$0\" -- \"$@\" 2>&1 >&3) || "
    "! printf \"%s\\n\" \"$e\" | grep -v \": No such file or directory$\" >&2'\n"
    "exec 3>&1\n"
    "tell() { " TRAILER "\"$K\" \"$1\" \"${e##*: }\" \"$e\" \"$x\"; }\n"
    "spent() { tell $((500 + $1)); exec cat >/dev/null; }\n"
    "run() { e=$(\"$@\" 2>&1 >&3 </dev/null); s=$?; }\n"
    "names() { run find \"$1\" -mindepth 1 -maxdepth 1 -exec sh -c \"$G\" \"$F\" {} +; }\n"
    "rd() {\n"
    "  run stat -c \"$H\" -- \"$1\"; [ $s = 0 ] || return 0\n"
    "  if [ -L \"$1\" ]; then run readlink -n -- \"$1\"; return 0; fi\n"
    "  [ -f \"$1\" ] || return 0\n"
    "  run dd if=\"$1\" bs=262144 iflag=skip_bytes,count_bytes skip=\"$2\" count=\"$3\" "
    "status=none\n"
    "  [ $s != 0 ] || x=$(stat -c \"$H\" -- \"$1\" 2>/dev/null)\n"
    "}\n"
    "st() {\n"
    "  s=0\n"
    "  [ \"$1\" = - ] || run chown -h \"$1\" \"$p\"\n"
    "  [ $s != 0 ] || [ \"$2\" = - ] || run chmod \"$2\" \"$p\"\n"
    "  [ $s != 0 ] || [ \"$3\" = - ] || run touch -c -h -a -d \"@$3\" \"$p\"\n"
    "  [ $s != 0 ] || [ \"$4\" = - ] || run touch -c -h -m -d \"@$4\" \"$p\"\n"
    "}\n"
    "fin() {\n"
    "  st \"$1\" - - -; st - \"$2\" \"$3\" \"$4\"\n"
    "  [ $s != 0 ] || [ -z \"$Y\" ] || run sync \"$p\"\n"
    "  [ $s != 0 ] || x=$(stat -c \"$H\" -- \"$p\" 2>/dev/null)\n"
    "}\n"
    "take() { c=$1; shift\n"
    "  dd bs=262144 iflag=fullblock,count_bytes count=\"$c\" status=none \"$@\"; }\n"
    "mk() {\n"
    "  p=$1\n"
    "  e=$( (umask \"$3\"; set -C; : >\"$p\") 2>&1 )\n"
    "  s=$?; if [ $s != 0 ]; then tell $s; take \"$2\" >/dev/null; return 0; fi\n"
    "  e=$(take \"$2\" of=\"$p\" conv=notrunc 2>&1)\n"
    "  s=$?; [ $s = 0 ] || spent $s\n"
    "  fin \"$4\" \"$5\" \"$6\" \"$7\"; tell $s\n"
    "}\n"
    "pt() {\n"
    "  p=$1 w=$4 v=$3 s=0\n"
    "  [ \"$(stat -c \"$2\" -- \"$p\" 2>/dev/null)\" = \"$v\" ] ||\n"
    "    { e=': Stale file handle' s=1; tell 1; take \"$w\" >/dev/null; return 1; }\n"
    "  shift 4\n"
    "  e=$(exec 2>&1 4<>\"$p\" || exit 1; while [ $# -gt 0 ]; do\n"
    "    take \"$2\" oflag=seek_bytes seek=\"$1\" conv=notrunc >&4 || exit 1\n"
    "    shift 2; done)\n"
    "  s=$?; [ $s = 0 ] || spent $s\n"
    "}\n"
    "xd() { [ \"$(stat -c %d -- \"$1\" 2>/dev/null)\" = \"$(stat -L -c %d -- \"$2\" 2>/dev/null)\" "
    "]"
    "; }\n"
    "isd() { [ -d \"$1\" ] && [ ! -L \"$1\" ]; }\n"
    "isn() { [ -e \"$1\" ] || [ -L \"$1\" ]; }\n"
    "mvr() {\n"
    "  run mv -fT -- \"$1\" \"$2\"; [ $s != 0 ] || return 0\n"
    /* GNU's mv does not put a link in the place of what it leads to; its ln does, in one step. */
    "  case $e in *'are the same file')\n"
    "    if [ -L \"$1\" ]; then run ln -fPT -- \"$1\" \"$2\"; [ $s != 0 ] || run rm -f -- \"$1\"; fi\n"
    "    return 0;;\n"
    "  esac\n"
    /* BusyBox's mv looks at what a link leads to, and does not replace directories. */
    "  case $e in *'is a directory' | *'symbolic links') ;; *) return 0;; esac\n"
    "  if [ -L \"$2\" ]; then\n"
    "    o=$(readlink -n -- \"$2\"; echo .)\n"
    "    run rm -- \"$2\"; [ $s = 0 ] || return 0\n"
    "    run mv -fT -- \"$1\" \"$2\"; [ $s = 0 ] || ln -sT -- \"${o%.}\" \"$2\"; return 0\n"
    "  fi\n"
    "  case $2/ in \"$1\"/*) return 0;; esac\n"
    "  isd \"$1\" && isd \"$2\" || return 0\n"
    "  run rmdir -- \"$2\"; [ $s = 0 ] || return 0\n"
    "  run mv -fT -- \"$1\" \"$2\"; [ $s = 0 ] || mkdir -- \"$2\"\n"
    "}\n"
    "mvn() {\n"
    "  if isd \"$1\"; then\n"
    "    if isn \"$2\"; then e=': File exists' s=1; else run mv -fT -- \"$1\" \"$2\"; fi; return "
    "0\n"
    "  fi\n"
    "  run ln -T -- \"$1\" \"$2\"\n"
    "  if [ $s = 0 ]; then run rm -f -- \"$1\"; [ $s = 0 ] || rm -f -- \"$2\"; return 0; fi\n"
    "  case $e in *'not permitted' | *'not supported' | *'not implemented') ;; *) return 0;; esac\n"
    "  if isn \"$2\"; then e=': File exists' s=1; else run mv -fT -- \"$1\" \"$2\"; fi\n"
    "}\n"
    "rms() {\n"
    "  for p; do run rm -- \"$p\"; printf '%03d %-59.59s\\n' $s \"${e##*: }\"; done; e= s=0\n"
    "}\n"
    "z=/.quay-none; m=\n"
    "for i in stat find dd mv ln rm mkdir rmdir chmod chown touch readlink truncate grep cat; do\n"
    "  command -v $i >/dev/null 2>&1 || m=\"$m $i\"\n"
    "done\n"
    "if [ -z \"$m\" ]; then\n"
    "  stat -c %y / >/dev/null 2>&1 || m=\"$m stat -c\"\n"
    "  dd if=/dev/null of=/dev/null iflag=skip_bytes,count_bytes,fullblock oflag=seek_bytes skip=0 "
    "seek=0 count=0 conv=notrunc status=none 2>/dev/null </dev/null || m=\"$m dd iflag,oflag\"\n"
    "  case $(mv -fT $z $z.2 2>&1) in *'o such file'*) ;; *) m=\"$m mv -T\";; esac\n"
    "  case $(ln -T $z $z.2 2>&1) in *'o such file'*) ;; *) m=\"$m ln -T\";; esac\n"
    "  touch -c -h -a -d @1 $z 2>/dev/null || m=\"$m touch -h -d @\"\n"
    "fi\n"
    "Y=; case $(sync --help 2>&1 </dev/null) in *FILE*) Y=1;; esac\n"
    /* One command, so that all of it was read when the first word is said: ash reads ahead, in blocks, and what it
     * has to read behind that word would take the beginning of what is sent next along. */
    "{ e= x=\"${Y:-0}$m\"; tell 0\n"
    "while IFS= read -r l; do case $l in\n"
    "  \"$K \"*) e= x=; eval \"${l#\"$K \"}\";;\n"
    "  *) exit 99;;\n"
    "esac; done; exit 0; }\n";
