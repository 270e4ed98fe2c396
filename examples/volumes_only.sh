#!/bin/sh
# Per-region regression through volumes.tsv alone, with a shell and awk. Over the training people of a diagnosis: the
# slope of log volume on age within people, and how much persons' slopes differ (of fewer than three, everybody's). What
# is wanted is the last volume times exp(slope * years); lower and upper hold the middle half of a normal so wide.
#   nbkit benchmark write ageing --cohort embedded --to task
#   sh examples/volumes_only.sh task mine && nbkit benchmark judge task mine --out page.html
set -eu
[ $# -eq 2 ] || { echo "usage: sh volumes_only.sh TASK PREDICTIONS" >&2; exit 2; }
mkdir -p "$2"
awk -F '\t' -v OFS='\t' '
FNR == 1 { file++; split("", at); for (i = 1; i <= NF; i++) at[$i] = i; next }
file == 1 {                                        # participants.tsv
    id = plain($at["participant_id"]); group[id] = $at["diagnosis"]; learns[id] = $at["split"] == "training"; next
}
file == 2 {                                        # volumes.tsv
    id = plain($at["subject"]); region = $at["region"]; age = $at["age"] + 0; mm3 = $at["value"] + 0
    regions[region]
    if (mm3 <= 0) next
    if (!((id, region) in latest) || age >= latest[id, region]) { latest[id, region] = age; last[id, region] = mm3 }
    key = id SUBSEP region
    n[key]++; sx[key] += age; sy[key] += log(mm3); sxx[key] += age * age; sxy[key] += age * log(mm3)
    next
}
file == 3 && FNR == 2 { learn() }
file == 3 && $at["what"] == "forecast" {           # wanted.tsv
    id = plain($at["subject"]); age = $at["age"]
    for (region in regions) if ((id, region) in last) {
        g = (group[id], region) in slope ? group[id] : "everybody"
        few = many[g, region] < 3 ? "everybody" : g; wide = spread[few, region] > 0.001 ? spread[few, region] : 0.001
        years = age - latest[id, region]; wide *= 0.674 * (years < 0 ? -years : years)
        centre = slope[g, region] * years; start = last[id, region]
        print "sub-" id, age, region, start * exp(centre), start * exp(centre - wide), start * exp(centre + wide)
    }
}
BEGIN { OFMT = "%.9g"; print "subject", "age", "region", "value", "lower", "upper" }
function plain(id) { sub(/^sub-/, "", id); return id }
function learn(    key, part, x2, b, k, place, who) {
    for (key in n) {
        split(key, part, SUBSEP)
        if (!learns[part[1]] || n[key] < 2) continue
        x2 = sxx[key] - sx[key] ^ 2 / n[key]
        if (x2 <= 0) continue
        b = (sxy[key] - sx[key] * sy[key] / n[key]) / x2
        who[1] = group[part[1]]; who[2] = "everybody"
        for (k = 1; k <= 2; k++) {
            place = who[k] SUBSEP part[2]
            many[place]++; weight[place] += x2; rises[place] += x2 * b; squares[place] += x2 * b * b
        }
    }
    for (place in weight) {
        slope[place] = rises[place] / weight[place]
        spread[place] = sqrt(max0(squares[place] / weight[place] - slope[place] ^ 2))
    }
}
function max0(x) { return x > 0 ? x : 0 }
' "$1/participants.tsv" "$1/volumes.tsv" "$1/wanted.tsv" > "$2/volumes.tsv"
