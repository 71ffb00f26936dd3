"""English error messages about checkpoints and the user's own models; see `messages`."""

from __future__ import annotations

MODEL_MESSAGES: dict[str, str] = {
    # Checkpoints.
    "files_missing": (
        "Checkpoint {key} cannot be loaded, files are missing: {files}; "
        "restore them from the project's repository."
    ),
    "files_damaged": (
        "Checkpoint {key} cannot be loaded: its files are damaged; "
        "restore them from the project's repository."
    ),
    "file_damaged": (
        "Checkpoint {key} cannot be loaded: its file {file} is damaged; "
        "restore it from the project's repository."
    ),
    "hub_file_damaged": (
        "Checkpoint {key} cannot be loaded: its file {file} is not what the Hub sent; "
        "delete it from the cache of the Hub, so that it is fetched again."
    ),
    "clip_damaged": (
        "Checkpoint {key} cannot be loaded: its files are damaged; restore them from the project."
    ),
    "hub_clip_damaged": (
        "Checkpoint {key} cannot be loaded: its files are damaged; restore them from the Hub."
    ),
    "not_fetched": "Checkpoint {key} is fetched from the Hub when it is first used.",
    "clip_unreachable": (
        "Checkpoint {key} cannot be fetched from the Hub ({reason}); clip-small needs no network."
    ),
    "not_finite": (
        "Model {model} gave numbers that are not finite in step {step} of {total}: its weights are "
        "damaged, too large for this precision, or guided too strongly."
    ),
    # The user's own models.
    "own_checkpoints": (
        "STUDIO_CHECKPOINTS must be name=folder or name=Hub id, with commas between several, and "
        "names of 1 to 40 letters, digits, dots, _ or - that no other model has, got {got}"
    ),
    "own_no_folder": (
        "Checkpoint {key} cannot be used: there is no folder where STUDIO_CHECKPOINTS says."
    ),
    "own_unfinished": (
        "Checkpoint {key} cannot be used: its training has not ended; go on with it with --resume."
    ),
    "own_nowhere": (
        "Checkpoint {key} cannot be fetched from the Hub ({reason}), and there is no such folder."
    ),
    "hub_failed": "Checkpoint {key} cannot be fetched from the Hub ({reason}).",
    "own_no_config": (
        "Checkpoint {key} must be an unconditional UNet2DModel pipeline of diffusers, but has no "
        "{file} that can be read as one's."
    ),
    "own_class": (
        "Checkpoint {key} must be an unconditional UNet2DModel pipeline of diffusers, or a model "
        "told words that this project trained, but its network is of the class {got}."
    ),
    "own_class_conditional": (
        "Checkpoint {key} must be an unconditional UNet2DModel pipeline of diffusers, but its "
        "network is class-conditional."
    ),
    "own_channels": (
        "Checkpoint {key} must draw pictures of 3 channels, but its network takes {taken} and "
        "gives {given}."
    ),
    "own_no_size": (
        "Checkpoint {key} cannot be used: the config of its network does not say what size its "
        "pictures are."
    ),
    "own_size": (
        "Checkpoint {key} draws pictures of an unusual size: they must be square, from {minimum} "
        "to {maximum} px and a multiple of {stride} px, got {got} px."
    ),
    "own_scheduler": (
        "Checkpoint {key} must have a scheduler of betas, such as DDPMScheduler, got {got}."
    ),
    "own_prediction": (
        "Checkpoint {key} must have a scheduler whose prediction type is one of {accepted}, got "
        "{got}."
    ),
    "own_timesteps": (
        "Checkpoint {key} must have a scheduler of {minimum} timesteps or more, as many as a run "
        "may have steps, got {got}."
    ),
    "own_no_weights": (
        "Checkpoint {key} cannot be used: there is no diffusion_pytorch_model.safetensors or .bin "
        "beside the config of its network."
    ),
    "own_files_missing": "Checkpoint {key} cannot be used: files are missing: {files}.",
    "own_damaged": (
        "Checkpoint {key} cannot be used: its weights are damaged, {file} cannot be read."
    ),
    "own_pickle": (
        "Checkpoint {key} cannot be used: {file} is a pickle that holds more than weights, or is "
        "damaged; save the weights as safetensors."
    ),
    "own_config": (
        "Checkpoint {key} cannot be used: no network can be made from the config of its network."
    ),
    "own_other_weights": (
        "Checkpoint {key} cannot be used: its weights are not those of its config, {reason}."
    ),
    "own_weight_missing": "{weight} is missing",
    "own_weight_shape": "{weight} is {got}, and must be {wanted}",
    "own_weight_unknown": "there are others besides",
    "own_no_clip": (
        "Checkpoint {key} cannot be used: its network is told words, but there is no folder clip "
        "beside it with the CLIP that reads them."
    ),
    "own_clip_size": (
        "Checkpoint {key} cannot be used: its network takes {word} numbers for a word and {vector} "
        "for a text and a picture, but the CLIP in its folder clip gives {width} and {given}."
    ),
    "own_clip_damaged": (
        "Checkpoint {key} cannot be used: its CLIP is damaged, {file} cannot be read."
    ),
    "own_clip_vocabulary": (
        "Checkpoint {key} cannot be used: the vocabulary in its folder clip is not that of its "
        "CLIP."
    ),
    "own_clip_weights": (
        "Checkpoint {key} cannot be used: the weights of its CLIP are not those of the config in "
        "its folder clip."
    ),
    "own_schedule_damaged": (
        "Checkpoint {key} cannot be used: its scheduler cannot be made from its config."
    ),
    "no_repository": "no such repository, or one that is not open to you",
    "no_answer": "it does not answer",
    "hub_slow": "it answers too slowly",
    "hub_gated": "the repository is gated: ask for access on its page, and give the app a token",
    "hub_no_revision": "the repository has no such revision",
    "hub_no_file": "the repository has no {file}",
    "hub_busy": "it was asked too often; try again in a few minutes",
    "hub_broken": "it has a fault; try again later",
    "hub_truncated": "what came was not whole; try again",
    "hub_disk_full": "the disk is full",
    "hub_disk_closed": "the app may not write into the folder for what is fetched",
    "hub_token": "it does not know the app's token",
}
"""English sentence per kind of error."""
