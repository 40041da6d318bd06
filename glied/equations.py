"""The equations by number. The line of code that computes each one ends `# Eq. (n)`."""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

EQUATIONS: dict[int, str] = {
    1: r"A_i(Q,K,V) = \mathrm{softmax}\left(\frac{QW_i^Q(KW_i^K)^\top}{\sqrt{d_k}}\right)VW_i^V",
    2: r"H(Q,K,V) = [A_1;\dots;A_k]\,W_k",
    3: r"G(h;x) = \mathrm{LayerNorm}(x + \mathrm{Dropout}(h))",
    4: r"I = \mathrm{ReLU}(W^I F + b^I)",
    5: r"A = \sqrt{d}\,E[a], \qquad x = \sqrt{d}\,E[w]",
    6: r"x_t \leftarrow x_t + \mathrm{PE}(t)",
    7: r"\text{Base:}\quad \tilde{x} = G(H_x(x,X,X);\,x)",
    8: r"\text{Base:}\quad \tilde{c} = G(H_v(\tilde{x},I,I) + H_a(\tilde{x},A,A);\,\tilde{x})",
    9: r"\tilde{I} = G(H_{vd}(I,I,I);\,I)",
    10: r"\tilde{t} = G(H_{ad}(x,A,A);\,x)",
    11: r"\tilde{x} = G(H_x(\tilde{t},\tilde{T},\tilde{T});\,\tilde{t})",
    12: r"c_g = G(H_v(\tilde{x},\tilde{I},\tilde{I});\,\tilde{x})",
    13: r"\tilde{c} = G(H_{vl}(c_g,I,I) + H_{al}(c_g,A,A);\,c_g)",
    14: r"p = \mathrm{softmax}(W^c\tilde{c} + b^c), \qquad W^c = E",
    15: r"p_{ij}^w = \sigma(s_{ij}^w)",
    16: r"S_i^w = \sum_j \mathrm{softplus}(s_{ij}^w) = -\log\prod_j(1-p_{ij}^w)",
    17: r"P_i^w = 1 - e^{-S_i^w} = 1 - \prod_j(1-p_{ij}^w)",
    18: r"L_{\mathrm{MIL}} = \mathrm{mean}\left[(1-y)\,S - y\log(1-e^{-S})\right]",
    19: r"L_{\mathrm{XE}} = -\frac1n\sum_t\left[(1-\epsilon)\log p(w_t) + \frac{\epsilon}{V}\sum_v\log p(v)\right]",
    20: r"\hat r_i = r_i - \frac1{n-1}\sum_{j\neq i} r_j",
    21: r"L_{\mathrm{RL}} = -\frac1n\sum_i \hat r_i \sum_t\log p(w_{i,t})",
}


class CodeLine(NamedTuple):
    """A line of this package that computes an equation: where it stands, inside which function, and what it says."""

    file: str
    number: int
    inside: str
    source: str


@cache
def code_lines() -> dict[int, list[CodeLine]]:
    """Number of an equation -> the lines of the installed package that are marked with it."""
    found: dict[int, list[CodeLine]] = {number: [] for number in EQUATIONS}
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        outer = inside = ""
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if begun := re.match(r"( *)(?:def|class) (\w+)", line):
                outer = outer if begun[1] else begun[2]
                inside = f"{outer}.{begun[2]}" if begun[1] else outer
            if marked := re.search(r" +# Eq\. \((\d+)\).*", line):
                file = path.relative_to(package.parent).as_posix()
                found[int(marked[1])].append(CodeLine(file, number, inside, line[: marked.start()].strip()))
    return found
