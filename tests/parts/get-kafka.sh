#!/usr/bin/env bash
# Puts a runnable Apache Kafka (broker, controller, tools) into the cache, as kafka-VERSION/lib, from Maven artifacts.
# Idempotent, safe to run twice at once. Prints that lib folder on stdout. Needs: java 17+, mvn, flock.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"; . "$here/lib.sh"
: "${KAFKA_VERSION:=4.3.1}"
: "${LOG4J_VERSION:=2.25.4}"          # the log4j-core that this Kafka asks for (a bare kafka_2.13 has no slf4j binding)
home="$SLUICE_CACHE/kafka-$KAFKA_VERSION"
one_at_a_time kafka
if [ ! -e "$home/.complete" ]; then
  need_debian java=openjdk-17-jdk-headless mvn=maven
  rm -rf "$home" "$home.tmp"; mkdir -p "$home.tmp"
  cat >"$home.tmp/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka-dist</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA_VERSION</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$KAFKA_VERSION</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-transforms</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$LOG4J_VERSION</version></dependency>
  </dependencies>
</project>
POM
  cd "$home.tmp"
  retry mvn -q -B -ntp -Dstyle.color=never ${MVN_LOCAL_REPO:+-Dmaven.repo.local=$MVN_LOCAL_REPO} \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=lib >&2
  ls "$home.tmp"/lib/kafka_2.13-"$KAFKA_VERSION".jar "$home.tmp"/lib/log4j-slf4j-impl-*.jar >/dev/null
  cat >"$home.tmp/log4j2.properties" <<'L'
rootLogger.level=INFO
rootLogger.appenderRef.c.ref=c
appender.c.type=Console
appender.c.name=c
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=%d{ISO8601} %p %m (%c)%n
L
  cat >"$home.tmp/log4j2-tools.properties" <<'L'
rootLogger.level=WARN
rootLogger.appenderRef.c.ref=c
appender.c.type=Console
appender.c.name=c
appender.c.target=SYSTEM_ERR
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=%d{ISO8601} %p %m (%c)%n
L
  touch "$home.tmp/.complete"; cd "$SLUICE_CACHE"; mv "$home.tmp" "$home"
fi
echo "$home/lib"
