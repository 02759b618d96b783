# Section 3 of the manual from the public headers: a page for each part of a header (/* ---- part ---- */), a link to it for each
# function, and shardweld.3 above them all. A page says what the header says: each declaration with the comment above it.
#   awk -v out=DIR -v version=V -f packaging/man3.awk include/*.h

# ---- text -------------------------------------------------------------------------------------------

# What man must show as it is.
function escape(text,    i, c, s) {
    s = ""
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        s = s ((c in special) ? special[c] : c)
    }
    return (s ~ /^\./) ? "\\&" s : s
}

# Prose: names of functions stand out, and no name is broken.
function prose(text,    n, i, words, s) {
    n = split(text, words, " ")
    s = ""
    for (i = 1; i <= n; i++)
        s = s (i == 1 ? "" : " ") (words[i] ~ /[A-Z_]/ ? "\\%" : "") escape(words[i])
    gsub(/sw_[a-z0-9_]+\(\)/, "\\fB&\\fR", s)
    return s
}

# A comment, stripped of its stars. Indented lines are a list of names and what they are; what lies deeper goes on.
function put_comment(page, text,    n, i, lines, at, name, list) {
    sub(/ *Source: [^:]*$/, "", text)
    gsub(/ \(SPEC [0-9, ]+\)/, "", text)
    n = split(text, lines, "\n")
    list = 0
    for (i = 1; i <= n; i++) {
        match(lines[i], /^ */)
        at = RLENGTH
        sub(/^ +/, "", lines[i])
        if (lines[i] == "")
            continue
        if (at == 0) {
            if (list || (i > 1 && lines[i] ~ /^Errors:/))
                print ".PP" >page
            list = 0
        } else if (match(lines[i], /^[a-z_][a-z0-9_, ]*  +/) && (!list || at <= list)) {
            list = at
            name = substr(lines[i], 1, RLENGTH)
            sub(/ +$/, "", name)
            printf ".TP\n\\fI%s\\fR\n", escape(name) >page
            lines[i] = substr(lines[i], RLENGTH + 1)
        } else if (!list || at <= list) {
            list = at
            print ".IP" >page
        }
        print prose(lines[i]) >page
    }
}

function put_code(page, text,    n, i, lines) {
    n = split(text, lines, "\n")
    print ".EX" >page
    for (i = 1; i <= n; i++) {
        sub(/ +\\$/, " \\", lines[i])
        print escape(lines[i]) >page
    }
    print ".EE" >page
}

# ---- what a header declares -------------------------------------------------------------------------

# The functions in a declaration, between spaces.
function functions_of(text,    s) {
    s = ""
    if (text ~ /^(typedef|#|struct|enum)/)
        return s
    while (match(text, /sw_[a-z0-9_]+\(/)) {
        s = s (s == "" ? "" : " ") substr(text, RSTART, RLENGTH - 1)
        text = substr(text, RSTART + RLENGTH)
    }
    return s
}

# What a declaration is called.
function title_of(text,    words) {
    if (functions_of(text) != "")
        return functions_of(text)
    if (text ~ /^#define/) {
        split(text, words, /[ (]/)
        return words[2]
    }
    split(text, words, /[ ;{\n]+/)
    return words[1] == "typedef" ? words[3] : words[2]
}

function take_entry() {
    if (!joined || comment != "") {
        entry = ++nentries
        entry_part[entry] = part
        entry_comment[entry] = comment
        entry_code[entry] = code
        entry_title[entry] = title_of(code)
    } else {
        entry_code[entry] = entry_code[entry] "\n" code
        entry_title[entry] = entry_title[entry] " " title_of(code)
    }
    comment = ""
    code = ""
    joined = 1
}

function new_part(name) {
    part = ++nparts
    part_name[part] = name
    part_header[part] = header
    part_page[part] = "shardweld_" name
    gsub(/ /, "_", part_page[part])
    if (part == 1)
        part_page[part] = "shardweld"
}

# A comment with no declaration below it is about the part, or the header.
function lone_comment() {
    if (comment != "")
        about[part] = about[part] (about[part] == "" ? "" : "\n") comment
    comment = ""
}

BEGIN {
    special["\\"] = "\\e"
    special["-"] = "\\-"
    special["'"] = "\\(aq"
    special["\""] = "\\(dq"
    special["^"] = "\\(ha"
    special["~"] = "\\(ti"
    special["`"] = "\\(ga"
}

FNR == 1 {
    lone_comment()
    header = FILENAME
    sub(/.*\//, "", header)
    name = header
    sub(/\.h$/, "", name)
    sub(/^shardweld_?/, "", name)
    new_part(name == "" ? "overview" : name)
}

/^#ifdef __cplusplus/ { foreign = 1 }
foreign { if (/^#endif/) foreign = 0; next }

# An inline function, up to its body.
in_body { in_body = !/^}/; next }
/^static inline / { code = substr($0, 15) ";"; take_entry(); in_body = 1; next }

# Inside of a declaration or a comment.
code != "" { code = code "\n" $0; if (code_is_macro ? !/\\$/ : (code_is_block ? /^}/ : /;/)) take_entry(); next }
in_comment {
    line = $0
    in_comment = line !~ /\*\/ *$/
    sub(/^ \* ?/, "", line)
    sub(/ *\*\/ *$/, "", line)
    comment = comment "\n" line
    next
}

/^\/\* ---- / {
    lone_comment()
    name = $0
    sub(/^\/\* ---- /, "", name)
    sub(/ -+ \*\/$/, "", name)
    new_part(name)
    joined = 0
    next
}
/^\/\*/ {
    comment = substr($0, 4)
    in_comment = $0 !~ /\*\/ *$/
    sub(/ *\*\/ *$/, "", comment)
    next
}
/^$/ { lone_comment(); joined = 0; next }
/^#define [A-Z_]*_H$/ || /^#(include|ifndef|endif|undef|if|elif|else)/ { lone_comment(); next }
{
    code = $0
    code_is_macro = /^#define/
    code_is_block = /^(typedef|struct|enum).*\{$/
    if (code_is_macro ? !/\\$/ : (!code_is_block && /;/))
        take_entry()
}

# ---- pages ------------------------------------------------------------------------------------------

# The functions of a part, in their order, between spaces.
function part_functions(p,    e, s) {
    s = ""
    for (e = 1; e <= nentries; e++)
        if (entry_part[e] == p && functions_of(entry_code[e]) != "")
            s = s (s == "" ? "" : " ") functions_of(entry_code[e])
    return s
}

function put_head(page, name) {
    printf ".TH %s 3 \"\" \"shardweld %s\" \"Library Functions\"\n.ad l\n.SH NAME\n", toupper(name), version >page
}

# The page's own name and the functions, and what they are.
function put_names(page, p, what,    names) {
    names = part_functions(p)
    gsub(/ /, ",\n", names)
    printf "%s%s%s \\- %s\n", part_page[p], names == "" ? "" : ",\n", names, what >page
}

function put_synopsis(page, p,    e) {
    printf ".SH SYNOPSIS\n.nf\n.B #include <%s>\n", part_header[p] >page
    for (e = 1; e <= nentries; e++)
        if (entry_part[e] == p && functions_of(entry_code[e]) != "")
            printf ".PP\n.ft B\n%s\n.ft\n", escape(entry_code[e]) >page
}

function put_entries(page, p,    e, names) {
    for (e = 1; e <= nentries; e++) {
        if (entry_part[e] != p)
            continue
        names = entry_title[e]
        gsub(/ /, ", ", names)
        printf ".SS %s\n", escape(names) >page
        if (entry_comment[e] != "")
            put_comment(page, entry_comment[e])
        if (functions_of(entry_code[e]) != "")
            continue
        if (entry_comment[e] != "")
            print ".PP" >page
        put_code(page, entry_code[e])
    }
}

function put_part(p,    page) {
    page = out "/" part_page[p] ".3"
    put_head(page, part_page[p])
    put_names(page, p, part_name[p] " of libshardweld")
    put_synopsis(page, p)
    print ".fi\n.SH DESCRIPTION" >page
    put_comment(page, about[p])
    put_entries(page, p)
    print ".SH SEE ALSO\n.BR shardweld (3)" >page
    close(page)
}

function put_links(p,    n, i, names, page) {
    n = split(part_functions(p), names, " ")
    for (i = 1; i <= n; i++) {
        page = out "/" names[i] ".3"
        printf ".so man3/%s.3\n", part_page[p] >page
        close(page)
    }
}

function has_entries(p,    e) {
    for (e = 1; e <= nentries; e++)
        if (entry_part[e] == p)
            return 1
    return 0
}

# The first part is what the header says of itself: "shardweld: what it is.", then more.
function put_overview(    page, p, what, names) {
    page = out "/shardweld.3"
    put_head(page, "shardweld")
    sub(/^shardweld: /, "", about[1])
    what = about[1]
    sub(/\.?\n.*/, "", what)
    sub(/^[^\n]*\n/, "", about[1])
    put_names(page, 1, what)
    put_synopsis(page, 1)
    print ".PP\ncc ... $(pkg\\-config \\-\\-cflags \\-\\-libs shardweld)\n.fi\n.SH DESCRIPTION" >page
    put_comment(page, about[1])
    put_entries(page, 1)
    print ".SH PARTS" >page
    for (p = 2; p <= nparts; p++) {
        if (!has_entries(p))
            continue
        names = part_functions(p)
        gsub(/ /, ", ", names)
        printf ".TP\n\\fB%s\\fR(3)\n%s%s%s\n", escape(part_page[p]), escape(part_name[p]), names == "" ? "" : ": ", names >page
    }
    print ".SH SEE ALSO\n.BR shardweld (1)" >page
    close(page)
}

END {
    lone_comment()
    put_overview()
    put_links(1)
    for (p = 2; p <= nparts; p++) {
        if (has_entries(p)) {
            put_part(p)
            put_links(p)
        }
    }
}
