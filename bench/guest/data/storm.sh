# A storm of short processes, as builds and start-up scripts make them.
for i in {1..20}; do
	name=$(basename "/a/path/of/file-$i.c" .c)
	echo "$name" | sed 's/file/object/' | tr a-z A-Z
	if expr "$i" % 3 = 0 >/dev/null && [ -d / ]; then
		dirname "/a/path/of/$name"
	fi
	(cd / && cat /dev/null; :)
done
for i in {1..6000}; do
	x=$((i * 7919 % 10007))
	case $x in *7) set -- "$x" "${x%7}" ;; esac
done
echo "$x $*"
