"""What the page of the tab for editing says in English, and how it explains itself."""

from __future__ import annotations

from pipelines.diffusion import known
from pipelines.diffusion.known import Known
from pipelines.diffusion.losses import Keep
from pipelines.runs.explanation import LOOP, SOLVER_LINKS, STEP, Excerpt, Explanation

EXPLANATION = Explanation(
    equations=(
        r"x_0 \leftarrow x_0 + C_t A^\top (A\,C_t A^\top)^{-1} (y - A\,x_0)",
        r"C_t = \left(C^{-1} + \frac{\alpha_t^2}{\sigma_t^2} I\right)^{-1}",
        STEP,
    ),
    excerpts=(
        LOOP,
        Excerpt("follow", known.extended, "x0 = x0 + space.moved"),
        Excerpt("known", Known.__call__, "agreed = ", "return replace"),
        Excerpt("keep", Keep.project, "return "),
    ),
    links=(
        *("course", *SOLVER_LINKS, "ddnm", "repaint", "sdedit"),
        *("differential", "lanpaint", "dps"),
    ),
)

TEXTS = {
    "title": "Edit",
    "introduction": (
        "Bring a picture of your own, or press **Edit this** at one that was drawn here, and say "
        "what shall become of it. Nothing is trained for it: in every step, what you keep is put "
        "into the picture that the model predicts, and the model makes the rest fit."
    ),
    "run": "Paint",
    "alt": "The edited picture",
    "shared.cut": "Left: as it was. Right: edited",
    "shared.unguided_alt": "The picture as it was",
    "curve_known": "Distance of the prediction from what is known, 0 to 255",
    "curve_picture": "Distance of the prediction from the picture, 0 to 255",
    "idea": (
        "A diffusion model draws in steps, and in each it predicts the finished picture. Something "
        "of that picture is known: the pixels that you keep, its grey, or what it looks like when "
        "it is made small. So the prediction is replaced by the nearest picture that agrees with "
        "what is known, and the model goes on from there. Near means: near for natural pictures, "
        "in which neighbours go together. So what is not known moves along with what is, far at "
        "first and less as the picture is decided, and leaves no seam. Wishes such as words or a "
        "colour then move the prediction; where they contradict what is known, what is known wins."
    ),
    "symbols": (
        "*x*<sub>0</sub>: the finished picture as the network predicts it from the noisy one, "
        "*x*<sub>t</sub>. *y*: what is known. *A*: what makes *y* out of a picture: it cuts out "
        "the kept pixels, takes their grey, or averages them. *C*: how the pixels of natural "
        "pictures vary together; *C*<sub>t</sub>: how far they are still undecided. α, σ: the "
        "parts of picture and of noise. "
        "ε: the noise that *x*<sub>0</sub> leaves in *x*<sub>t</sub>, found anew after it. *s*: "
        "the next, less noisy step. `restyle` knows nothing: it begins on the way, with the "
        "picture under noise. `vary` goes back to the noise that it would be drawn from, and "
        "begins beside it."
    ),
    "caption.known": (
        "Inside a step: what is known is put into the prediction, wishes move it, and what is "
        "known is put in once more."
    ),
    "caption.keep": "The nearest picture with the kept pixels: those take the place of its own.",
    "caption.follow": (
        "All of the prediction follows what is known: `moved` solves the first equation."
    ),
}
