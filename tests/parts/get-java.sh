#!/usr/bin/env bash
# A Java with what tests/java/pom.xml names on its class path: Kafka's client and Avro. Idempotent, safe to run twice at once.
# Prints its path on stdout; it takes a .java file and that one's arguments.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"; . "$here/lib.sh"
java="$here/../java"
key="$(cat "$java/pom.xml" "$java/jars.sha256" | sha256sum | cut -c1-12)"
home="$SLUICE_CACHE/java-$key"
one_at_a_time java
need_debian javac=openjdk-17-jdk-headless   # a java alone has no compiler
if [ ! -e "$home/.complete" ]; then
  need_debian mvn=maven
  rm -rf "$home" "$home.tmp"; mkdir -p "$home.tmp"; cp "$java/pom.xml" "$home.tmp"; cd "$home.tmp"
  retry mvn -q -B -ntp -Dstyle.color=never ${MVN_LOCAL_REPO:+-Dmaven.repo.local=$MVN_LOCAL_REPO} \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=lib >&2
  (cd lib && sha256sum ./*.jar | sed 's|\./||' | diff "$java/jars.sha256" - >&2) || die "these are not the jars that were expected"
  cat >java <<'J'
#!/usr/bin/env bash
# The java beside the compiler: another one on the path may have none.
javac="$(readlink -f "$(command -v "${JAVA_HOME:+$JAVA_HOME/bin/}javac")")"
exec "${javac%javac}java" -Xmx512m -cp "$(dirname "${BASH_SOURCE[0]}")/lib/*" "$@"
J
  chmod +x java
  touch .complete; cd "$SLUICE_CACHE"; mv "$home.tmp" "$home"
fi
echo "$home/java"
