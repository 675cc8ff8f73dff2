# SPDX-License-Identifier: Apache-2.0
# Keys, certificates, tokens and kubeconfigs. Made once for a state folder, kept until `clean`, readable by the owner only.
# Every function works in the folder $PKI (keys) and $ETC (kubeconfigs), which the caller sets, and runs under umask 077.

VALID_DAYS=3650

# Each file appears by a rename, so that a kill leaves either nothing or the whole.
make_authority() {
  [ -s "$PKI/ca.crt" ] && return
  openssl req -x509 -newkey rsa:2048 -nodes -days $VALID_DAYS -subj "/CN=$1" -addext keyUsage=critical,keyCertSign,cRLSign \
    -keyout "$PKI/ca.key" -out "$PKI/.new" 2>/dev/null && mv "$PKI/.new" "$PKI/ca.crt" || die "openssl could not make an authority in $PKI"
}

# make_certificate NAME SUBJECT USAGE [SUBJECT ALTERNATIVE NAMES]
make_certificate() {
  local name=$1 subject=$2 usage=$3 names=${4:-}
  [ -s "$PKI/$name.crt" ] && return
  openssl req -newkey rsa:2048 -nodes -subj "$subject" -keyout "$PKI/$name.key" -out "$PKI/$name.csr" 2>/dev/null &&
    openssl x509 -req -in "$PKI/$name.csr" -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial -days $VALID_DAYS -out "$PKI/.new" \
      -extfile <(printf 'extendedKeyUsage=%s\n' "$usage"; [ -z "$names" ] || printf 'subjectAltName=%s\n' "$names") 2>/dev/null &&
    rm "$PKI/$name.csr" && mv "$PKI/.new" "$PKI/$name.crt" || die "openssl could not make the certificate $name in $PKI"
}

make_signing_key() {
  [ -s "$PKI/service-accounts.key" ] && return
  openssl genrsa -out "$PKI/.new" 2048 2>/dev/null && mv "$PKI/.new" "$PKI/service-accounts.key" || die "openssl could not make a key in $PKI"
}

# make_users SERVER: reads lines "NAME USER GROUP" from stdin; makes tokens.csv and NAME.kubeconfig for each.
make_users() {
  local server=$1 users name user group token authority
  users=$(cat)
  [ -s "$PKI/tokens.csv" ] && [ "$server $users" = "$(cat "$PKI/.users" 2>/dev/null)" ] && return
  authority=$(base64 -w0 <"$PKI/ca.crt")
  : >"$PKI/.tokens"
  while read -r name user group; do
    token=$(openssl rand -hex 32)
    echo "$token,$user,$name${group:+,$group}" >>"$PKI/.tokens"
    # JSON, which every reader of YAML takes, for readers that have no YAML.
    cat >"$ETC/$name.kubeconfig" <<K
{"apiVersion": "v1", "kind": "Config", "current-context": "sandbox",
 "clusters": [{"name": "sandbox", "cluster": {"server": "$server", "certificate-authority-data": "$authority"}}],
 "users": [{"name": "$name", "user": {"token": "$token"}}],
 "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "$name", "namespace": "default"}}]}
K
  done <<<"$users"
  echo "$server $users" >"$PKI/.users"
  mv "$PKI/.tokens" "$PKI/tokens.csv"
}

# is_ready SERVER: asks the API server as the administrator; the token does not appear in any process's arguments.
is_ready() {
  local token
  token=$(sed -n 's/.*"token": "\([0-9a-f]*\)".*/\1/p' "$ETC/admin.kubeconfig")
  [ "$(curl -s -m 2 --cacert "$PKI/ca.crt" -H @<(echo "Authorization: Bearer $token") "$1/readyz" 2>/dev/null)" = ok ]
}
