#!/bin/sh
# make install, make uninstall:   install.sh install|uninstall PROGRAM, with PREFIX and DESTDIR in the environment.
# The job scripts are started in the project's folder, and name each other and the program from there; the installed
# ones name those below PREFIX, so that they can be started in any folder.

share=$PREFIX/share/autolora root=$DESTDIR$PREFIX
case $PREFIX in
[!/]* | *[!A-Za-z0-9/._+@-]* | '') # job scripts and lists of qsub's take no others
    echo "PREFIX is an absolute path of letters, digits and /._+@-, not '$PREFIX'" >&2
    exit 2
    ;;
esac

uninstall() {
    rm -rf "$root/bin/autolora" "$root/share/man/man1/autolora.1" "$DESTDIR$share"
}

files() { # as they are in the project's folder; no models, nothing that make or Python left
    find inputs analysis jobs README.md LICENSE -type f ! -name '*.pyc' ! -path 'inputs/models/*' ! -path 'jobs/setup/*'
    printf '%s\n' jobs/setup/base-model.sh jobs/setup/base-model.txt
}

install_all() {
    umask 022
    mkdir -p "$root/bin" "$root/share/man/man1" "$DESTDIR$share" || return
    install -m 755 "$1" "$root/bin/autolora" && install -m 644 src/autolora.1 "$root/share/man/man1" || return
    files | while read -r file; do
        if [ -x "$file" ]; then mode=755; else mode=644; fi
        install -D -m $mode "$file" "$DESTDIR$share/$file" || return
    done || return
    find "$DESTDIR$share/jobs" -type f ! -name '*.md' -exec sed -i -E \
        -e "s#\bjobs/(launch\.sh|sweep|slurm/|pbs/|env/|demo\.sh)#$share/jobs/\1#g" \
        -e "s#\bbin/autolora#$PREFIX/bin/autolora#g" {} +
}

case $1 in
install) install_all "$2" && echo "installed in $root/bin, $root/share/man and $DESTDIR$share" ;;
uninstall) uninstall ;;
esac
