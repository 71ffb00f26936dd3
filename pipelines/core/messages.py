"""English error messages: one sentence per kind, with placeholders for the parts.

Other languages have theirs in `assets/words`.
"""

from __future__ import annotations

from pipelines.core.model_messages import MODEL_MESSAGES

MESSAGES: dict[str, str] = MODEL_MESSAGES | {
    # Settings, one by one.
    "whole": "{name} must be a whole number from {minimum} to {maximum}, got {got}",
    "real": "{name} must be a number from {minimum:g} to {maximum:g}, got {got}",
    "real_or_off": (
        "{name} must be a number from {minimum:g} to {maximum:g} (or {off}: off), got {got}"
    ),
    "choice": "{name} must be one of {options}, got {got}",
    "digits": "{name} must be {minimum} to {maximum} characters 0-9, got {got}",
    "digit_or_none": "{name} must be a text of one digit 0-9, or empty, got {got}",
    "color": "{name} must be a colour such as #44CCAA, rgb(68, 204, 170) or teal, got {got}",
    "palette": (
        "{name} must be up to {maximum} colours with shares such as #102040 60, gold 40, got {got}"
    ),
    "palette_comma": "{name} must have shares with a point, as in gold 60.5, got {got}",
    "palette_count": "{name} must be at most {maximum} colours, got {got}",
    "palette_some_shares": (
        "{name} must be colours that all have a share or none, got {shared} of {count} with one"
    ),
    "palette_sum": "{name} must be colours whose shares add up to 100, got {got:g}",
    "palette_share": "{name} must be colours with shares above 0, up to 100, got {got}",
    "prompt": "{name} must be words, at most {maximum} characters, got {got}",
    "prompt_unicode": "{name} must be valid Unicode, got {got}",
    "prompt_count": "{name} must be at most {maximum} sentences between |, got {got}",
    "prompt_words": "{name} must be words before and after every |, got {got}",
    "prompt_letters": "{name} must be words, with a letter or digit in each entry, got {got}",
    "prompt_tiny": (
        "{name} must be sentences with weights of 0.0001 or more, or of -0.0001 or less, got {got}"
    ),
    "prompt_weight": (
        "{name} must be sentences with weights from -{maximum:g} to {maximum:g} other than 0, "
        "got {got}"
    ),
    "prompt_number": (
        "{name} must end in words or in a weight such as 0.5 or -1 after the colon, got {got}"
    ),
    "prompt_brackets": (
        "{name} must have each weight at the end of an entry, as in red:1.2 | heart, got {got}"
    ),
    "prompt_bar": "{name} must have | between weights, as in snow:1 | people:-0.5, got {got}",
    "prompt_word_as_weight": (
        "{name} must have a number after the colon, or :1 after the word, where others have "
        "weights, got {got}"
    ),
    "prompt_tokens": (
        "{name} must be at most {maximum} tokens for {clip_model}, about as many words, got {got}"
    ),
    "picture": (
        "{name} must be a picture (PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF) or its "
        "data:image/png;base64, address, got {got}"
    ),
    "picture_bytes": "{name} must be a picture of at most {maximum} MB, got {got:.1f} MB",
    "picture_size": (
        "{name} must be at most {maximum} px wide and high and {megapixels} megapixels, "
        "got {width} x {height} px"
    ),
    "mask_square": "{name} must be square as the pictures are, got {width} x {height} px",
    "mask_black": "{name} must be white somewhere, got one that is wholly black",
    "crop": (
        "{name} must be left edge, top edge and side of a square in pixels such as 0, 16, 64, with "
        "a side of {least} or more, got {got}"
    ),
    "edited_size": (
        "{name} must be {least} to {most} px wide and high, got {width} x {height} px; make it "
        "smaller, or cut out the part to edit"
    ),
    # Settings that contradict each other.
    "edit_no_picture": "{@image} must be a picture to edit, got nothing",
    "factor": "{@factor} must be 2, 4, 8 or 16, got {got}",
    "factor_of_model": (
        "{@factor} must divide the side of the pictures that {@model} draws, {side} px, got {got}"
    ),
    "mask_size": (
        "{@mask} must be as large as the picture, {width} x {height} px, got {mask_width} x "
        "{mask_height} px"
    ),
    "mask_nothing": "{@mask} must be white or grey somewhere, got one that is wholly black",
    "mask_nothing_in_crop": (
        "{@mask} must be white or grey inside {@crop}, got one that is black there"
    ),
    "fill_all": (
        "{@mask} must leave something of the picture when {@task} is {@task=fill}, got one that is "
        "wholly white"
    ),
    "fill_all_in_crop": (
        "{@mask} must leave something inside {@crop} when {@task} is {@task=fill}, got one that is "
        "wholly white there"
    ),
    "fill_no_mask": (
        "{@mask} must say what to redraw when {@task} is {@task=fill} and the picture has no "
        "transparent part, got nothing"
    ),
    "crop_outside": ("{@crop} must lie inside the picture, {width} x {height} px, got {got}"),
    "eta_solver": "{@eta} must be 0 unless {@solver} is {@solver=ddim}, got {got:g}",
    "region_or_mask": "{@region} must be {@region=all} when {@mask} is given, got {got}",
    "loss_pixels": (
        "{@loss} must be {@loss=mean} with {@region}, {@mask} or {@palette}, got {@loss=pixels}"
    ),
    "course_only": (
        "{name} must be left at its default when {@method} is {@method=course}, which knows only "
        "one colour for every pixel, got {got}"
    ),
    "course_color": (
        "{@color} must be left empty when {@method} is {@method=course}, which knows only words, "
        "got {got}"
    ),
    "course_own": (
        "{name} must be 0 when {@method} is {@method=course}, which knows only words, got {got}"
    ),
    "prompt_missing": (
        "{@prompt} must be words such as a landscape with trees, or come with {@image_prompt}, "
        "got nothing"
    ),
    "scale_of_course": (
        "{@guidance_scale} must be a number from 0 to {maximum:g} unless {@method} is "
        "{@method=course}, got {got:g}"
    ),
    "start_stop": "{start_name} must be at most {stop_name}, {stop:g}, got {start:g}",
    "fast_eta": (
        "{@eta} must be 0 or {off} when {@method} is {@method=fast}, which adds no noise, "
        "got {got:g}"
    ),
    "fast_repeats": (
        "{@repeats} must be 0 or 1 when {@method} is {@method=fast}, which does each step once, "
        "got {got:g}"
    ),
    "computed_by_here": "{@computed_by} must be one of {accepted} on this machine, got {got}",
    # Sweeps over settings.
    "sweep_name": "{@rows} and {@columns} must be settings out of {options}, got {got}",
    "sweep_values": "{name} must be values between commas or semicolons, got {got}",
    "sweep_many": "{name} must be at most {maximum} values, got more in {got}",
    "sweep_repeated": "{name} must be values that differ, got {got} twice",
    "sweep_comma": (
        "{name} must be numbers with a point, as in 0.5, or values between semicolons, as in "
        "0; 5, got {got}"
    ),
    "sweep_thousands": (
        "{name} must be numbers without commas, as in 1000, or values between semicolons, got {got}"
    ),
    "sweep_dots": "{name} must have two points between numbers, as in 1..6, got {got}",
    "sweep_digit": "{name} must be single digits such as 0, 1, 2 or 0-9, got {got}",
    "sweep_range": "{name} must be ranges of 2 to {maximum} values, got {got}",
    "sweep_axes": "{@rows} and {@columns} must be settings that differ, got {got} for both",
    "sweep_cells": (
        "{@rows} and {@columns} must be at most {maximum} cells together, got {rows} x {columns}"
    ),
    # What cannot end in time.
    "run_too_long": (
        "This run would take about {estimate} s, and a run may take {limit} s; {fits} would end "
        "in time"
    ),
    "run_hopeless": (
        "This run would take about {estimate} s, and a run may take {limit} s; choose something "
        "faster for {faster}"
    ),
    "sweep_too_long": (
        "{size} would take about {estimate} s, and a run may take {limit} s; {fits} would end in "
        "time"
    ),
    "sweep_hopeless": (
        "{size} would take about {estimate} s, and a run may take {limit} s; choose something "
        "faster for {faster}"
    ),
    "fits_steps": "{count} steps",
    "fits_images": "{count} pictures",
    "fits_tries": "{count} seeds tried",
    "fits_single": "one picture of {count} steps with one seed tried",
    "fits_cells": "{count} cells",
    "fits_cells_of_steps": "{cells} cells of {count} steps",
    "fits_or": "{first}, or {second}",
    "own_failed": "{name}, a loss or method of {path}, failed: {reason}",
    # Descriptions of a value, in place of a quotation.
    "number_as_text": "{got}, which is a text",
    "nothing": "nothing",
    "that_many_characters": "{count} characters",
    "that_many": "{count} of them",
    "unreadable_file": "a file that cannot be read",
    "damaged_picture": "a damaged picture",
    "empty_file": "an empty file",
    "heic_file": "a HEIC picture: save it as JPEG or PNG",
    # Files and links that restore a run.
    "record_no_png": "The file must be a PNG picture that can be read.",
    "record_too_large": "The picture must be at most {most} px wide and high, got {got} px.",
    "record_no_facts": (
        "The picture must be one saved by this studio: it says nothing of how it was made. "
        "Other programs and messengers often remove that."
    ),
    "record_left_out": (
        "The picture given as {name} was left out of this file, as wished or because it is large: "
        "open the file that the Save button gave instead."
    ),
    "record_damaged": "What the picture says of how it was made is damaged.",
    "record_tab": "tab must be one of {accepted}, got {got}.",
    "record_without_tab": "This was drawn by {got}, which has no tab here; call it over the API.",
    "record_plugin": (
        "This run used {got}, a loss or method of somebody's own that is not installed here: "
        "name its file in STUDIO_PLUGINS."
    ),
    "record_unknown": (
        "{got} must be a setting of the tab {tab}: this file was made by another version."
    ),
    "record_link_too_long": (
        "The link would be {got} characters long, and at most {most} are taken everywhere, for it "
        "would hold a picture. Save the PNG instead: it holds everything."
    ),
}
