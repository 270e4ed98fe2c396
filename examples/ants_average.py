"""The change so far carried forward by ANTs: a person's own, or, from one scan, the average of the diagnosis.

`pip install --no-deps antspyx==0.6.3 webcolors`, then

    make reproduce NB=08 MODEL=examples/ants_average.py:AntsAverage
"""

import os
import tempfile

os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import ants  # noqa: E402 - reads the number of threads when it is imported
import numpy as np  # noqa: E402

MOST = {"smoke": 1, "laptop": 6}


def picture(scan):
    """T1w as ANTs has it; all scans lie on one grid, so that voxels and their size are enough."""
    image = scan.image("T1w")
    return ants.from_numpy(image.numpy(), spacing=image.spacing)


def yearly(first, last):
    """The displacement (mm) that warps the first scan onto the last, over the years between; (X, Y, Z, 3)."""
    with tempfile.TemporaryDirectory() as folder:
        found = ants.registration(picture(last), picture(first), "SyNOnly", outprefix=f"{folder}/", syn_metric="CC",
                                  syn_sampling=2, reg_iterations=(40, 20, 10))
        warp = next(name for name in found["fwdtransforms"] if name.endswith(".nii.gz"))
        return ants.image_read(warp).numpy() / (last.age - first.age)


class AntsAverage:
    name = "ants_average"

    def __init__(self, profile="laptop"):
        self.most = MOST.get(profile)

    def fit(self, cohort):
        fields = {}
        for person in cohort:
            same = fields.setdefault(person.diagnosis, [])
            if len(person.scans) > 1 and (self.most is None or len(same) < self.most):
                same.append(yearly(person.scans[0], person.scans[-1]))
        self.average = {diagnosis: np.mean(some, axis=0) for diagnosis, some in fields.items() if some}

    def predict(self, history, ages, diagnosis):
        last = history[-1]
        field = yearly(history[0], last) if len(history) > 1 else self.average[diagnosis]
        scan = picture(last)
        return [np.clip(self._moved(scan, field * (age - last.age)), 0, None) for age in ages]

    def _moved(self, scan, field):
        vectors = ants.from_numpy(field, spacing=scan.spacing, has_components=True)
        warp = ants.transform_from_displacement_field(vectors)
        return ants.apply_ants_transform_to_image(warp, scan, scan).numpy()
