"""A homework on mappers and injection: thirteen exercises of lessons 5, 7 and 8 in one file, graded by pytest.

`python -m notebooks.strip FOLDER` writes the file that students fill in, homework.py, and `python -m pytest
notebooks/homework --student homework.py` grades one.
"""

CHECKS = (
    *("scores", "attention_map", "attend"),  # lesson 5: the map that is injected, and what it is multiplied with
    *("switch", "edited_values", "inject", "mapper", "alpha", "blend"),  # lesson 7
    *("used", "refine", "reweight", "local_blend"),  # lesson 8
)
