"""What the site has besides docs/: the README and its neighbours, as pages. A hook of MkDocs.

In them docs/X becomes X; in the pages of docs ../README.md becomes the page of that. Other files of the tree that a page leads to (examples,
LICENSE) are copied along, so that every link leads somewhere: the site is built strictly.
"""

import os
import re

from mkdocs.structure.files import File

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGES = {"README.md": "overview.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}
# Room for the tables, and for code of 100 columns.
STYLE = ".md-grid { max-width: 82rem } .md-typeset table:not([class]) { font-size: .7rem }\n"
LINK = re.compile(r'(\]\(|src=")([^)"#\s]+)')


def text_of(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as f:
        return f.read()


def local(target):
    return "://" not in target and not target.startswith(("mailto:", "/"))


def above(target):
    """Where on the site a file of the tree's top is, seen from the pages of docs."""
    return PAGES.get(target, target[len("docs/") :] if target.startswith("docs/") else target)


def beside(found, config):
    """A link in a page of the tree's top."""
    begin, target = found.groups()
    return begin + (above(target) if local(target) else target)


def on_files(files, config):
    """The pages from above, and the other files that any page leads to."""
    texts = {name: text_of(name) for name in PAGES}
    wanted = {t for text in texts.values() for _, t in LINK.findall(text) if local(t) and not t.startswith("docs/")}
    for page in files.documentation_pages():
        wanted |= {t[3:] for _, t in LINK.findall(page.content_string) if t.startswith("../")}
    for name, text in texts.items():
        files.append(File.generated(config, PAGES[name], content=LINK.sub(lambda found: beside(found, config), text)))
    for name in sorted(wanted - set(PAGES)):
        if os.path.isfile(os.path.join(ROOT, name)):
            files.append(File.generated(config, name, content=text_of(name)))
    files.append(File.generated(config, "site.css", content=STYLE))
    return files


def on_page_markdown(markdown, page, config, files):
    return re.sub(r"(\]\()\.\./([^)#\s]+)", lambda found: found.group(1) + above(found.group(2)), markdown)
