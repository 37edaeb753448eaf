"""Great Expectations' data docs as one page that needs nothing from outside.

Great Expectations renders its page with style sheets, scripts and a logo from several hosts. Here those
are left out and a small style sheet takes their place, so that the page opens offline and tells nobody.
"""

from __future__ import annotations

import html
import re
from typing import Any

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0;color:#1d2733;background:#f6f7f9}
.evergreen{background:#fff;border-bottom:1px solid #dde2e8;padding:1.2rem 2rem}
.evergreen h1{font-size:1.3rem;margin:0 0 .4rem}.evergreen dl{display:flex;gap:2rem;flex-wrap:wrap;margin:0}
.evergreen dt{color:#68778a;font-size:.8rem}.evergreen dd{margin:0;font-weight:600}
.pass{color:#12703c}.fail{color:#b3261e}
nav,.navbar,.modal,footer,script,.cooltip,#ge-cta-footer,form,.btn,.popover{display:none!important}
.container,.container-fluid{max-width:1180px;margin:0 auto;padding:0 2rem}
.col-lg-2,.col-md-2,.navigation-pane{display:none}
table{border-collapse:collapse;width:100%;background:#fff;margin:.5rem 0 1.2rem}
td,th{border:1px solid #dde2e8;padding:.35rem .6rem;text-align:left;vertical-align:top}
th{background:#eef1f4}h2,h3,h4,h5{margin:1rem 0 .3rem}ul{margin:.2rem 0;padding-left:1.2rem;list-style:none}
.badge{background:#e7ebf0;border-radius:.3rem;padding:0 .35rem;font-family:ui-monospace,monospace;font-size:.85em}
.fa-check-circle::before,.text-success::before{content:"\\2714";color:#12703c}
.fa-times,.text-danger::before{color:#b3261e}.fa-times::before{content:"\\2718"}
"""
OUTSIDE = re.compile(
    r"<script\b[^>]*>.*?</script>|<link\b[^>]*>|<img\b[^>]*>|<(\w+)[^>]*\bhref=\"(?:https?:|\.\.)[^\"]*\"[^>]*>.*?</\1>",
    re.DOTALL,
)


def render(results: list[Any], success: bool, title: str, facts: dict[str, Any]) -> str:
    """The page of one validation: our summary, then Great Expectations' own account of each expectation."""
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    passed = sum(bool(r.success) for r in results)
    outcome = ExpectationSuiteValidationResult(
        success=success,
        results=results,
        suite_name=title,
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(results) - passed,
            "success_percent": 100 * passed / len(results) if results else 100.0,
        },
        meta={},
    )
    page = DefaultJinjaPageView().render(ValidationResultsPageRenderer(run_info_at_end=True).render(outcome))
    page = OUTSIDE.sub("", page)
    entries = "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(str(v))}</dd></div>" for k, v in facts.items())
    verdict = '<span class="pass">passed</span>' if success else '<span class="fail">refused</span>'
    header = f'<div class="evergreen"><h1>{html.escape(title)}: {verdict}</h1><dl>{entries}</dl></div>'
    page = page.replace("</head>", f"<style>{STYLE}</style></head>", 1)
    return re.sub(r"(<body[^>]*>)", lambda m: m.group(1) + header, page, count=1)
