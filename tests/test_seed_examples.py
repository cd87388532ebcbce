"""The worked examples of the documents that this project grew from, each as a real call.

The documents, by title:

- "Architecture of Convolutional Neural Networks (CNNs) demystified" (two prints of it, cited as the article)
- "Convolutional Neural Network", lecture notes (cited as the notes)
- an article of the Data Science Blogathon on classifying dogs and cats (cited as the Blogathon article)

Tables are copied as printed. A cell that a print hides behind a formula is ``HIDDEN``. Where a figure is cut off,
or a document contradicts itself or its own code, the value is computed and the comment says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pycnn.functional as F
from pycnn import Tensor
from pycnn_kernels.plan import plan_for
from pycnn_kernels.problem import same_padding
from tests.kernels.problems import conv_problem

HIDDEN = np.nan


def table(text: str) -> np.ndarray:
    """An array from rows of printed numbers; "=" is a hidden cell."""
    rows = [line.split() for line in text.strip().splitlines()]
    return np.array([[HIDDEN if cell == "=" else float(cell) for cell in row] for row in rows])


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["channels_first", "channels_last"])
def convolve(request: pytest.FixtureRequest, dtype: str) -> Any:
    """Convolve one image of one channel with one kernel, in either dialect."""

    def apply(image: np.ndarray, kernel: Any, **settings: Any) -> np.ndarray:
        x, w = image.astype(dtype), np.atleast_2d(np.array(kernel, dtype))
        if request.param == "channels_first":
            return F.conv2d(x[None], w[None, None], **settings)[0]
        formats = {"data_format": "channels_last", "weight_format": "HWIO"}
        return F.conv2d(x[..., None], w[..., None, None], **settings, **formats)[..., 0]

    return apply


def assert_printed(found: np.ndarray, printed: np.ndarray) -> None:
    """Equal where a value is printed, to the last printed digit: all have one decimal at most."""
    assert found.shape == printed.shape
    seen = ~np.isnan(printed)
    np.testing.assert_allclose(found[seen], printed[seen], rtol=1e-6)


# The article, section 2: a photograph of the digit 4 as 17 x 4 numbers.

# The image of case 1, where 1 is white and 256 the darkest green.
FOUR_OF_CASE_1 = table("""
    25   2    1    44
    223  7    6    60
    196  8    2    148
    249  1    3    40
    60   7    1    154
    59   1    7    213
    214  7    3    163
    89   182  219  13
    74   146  113  72
    89   18   244  85
    1    4    8    97
    3    4    2    121
    2    1    2    131
    7    6    8    47
    3    5    5    126
    7    6    8    121
    5    3    1    237
""")
# The first cell is hidden behind the formula "=B2*$G$5".
CASE_1 = table("""
    =    6    3    132
    669  21   18   180
    588  24   6    444
    747  3    9    120
    180  21   3    462
    177  3    21   639
    642  21   9    489
    267  546  657  39
    222  438  339  216
    267  54   732  255
    3    12   24   291
    9    12   6    363
    6    3    6    393
    21   18   24   141
    9    15   15   378
    21   18   24   363
    15   9    3    711
""")
# The image of cases 2 to 5. Case 5 prints the last row as "8 8 5 122", in one print garbled at the edge of the
# page; its own results, 300.2 in the last row, come from the 133 of the other cases.
FOUR = table("""
    86   4    8    184
    252  3    8    40
    34   7    7    163
    105  2    3    69
    56   3    8    175
    126  1    2    178
    163  8    4    142
    22   222  74   180
    163  158  204  253
    245  98   85   180
    1    5    1    98
    4    2    8    90
    7    8    1    235
    2    1    3    217
    3    6    5    97
    6    5    8    79
    8    8    5    133
""")
CASE_2 = table("""
    87.2   6.4    63.2
    252.9  5.4    20
    36.1   9.1    55.9
    105.6  2.9    23.7
    56.9   5.4    60.5
    126.3  1.6    55.4
    165.4  9.2    46.6
    88.6   244.2  128
    210.4  219.2  279.9
    274.4  123.5  139
    2.5    5.3    30.4
    4.6    4.4    35
    9.4    8.3    71.5
    2.3    1.9    68.1
    4.8    7.5    34.1
    7.5    7.4    31.7
    10.4   9.5    44.9
""")
# The first row is hidden behind "=SUMPRODUCT(D2:E2,$I$5:$J$5)", but for its ends.
CASE_3 = table("""
    25.8   =      =      =      184
    75.6   252.9  5.4    20     40
    10.2   36.1   9.1    55.9   163
    31.5   105.6  2.9    23.7   69
    16.8   56.9   5.4    60.5   175
    37.8   126.3  1.6    55.4   178
    48.9   165.4  9.2    46.6   142
    6.6    88.6   244.2  128    180
    48.9   210.4  219.2  279.9  253
    73.5   274.4  123.5  139    180
    0.3    2.5    5.3    30.4   98
    1.2    4.6    4.4    35     90
    2.1    9.4    8.3    71.5   235
    0.6    2.3    1.9    68.1   217
    0.9    4.8    7.5    34.1   97
    1.8    7.5    7.4    31.7   79
    2.4    10.4   9.5    44.9   133
""")
CASE_4 = table("""
    28.6    40.4    920.8
    40.2    40.3    200.8
    38.4    35.7    815.7
    20.5    15.2    345.3
    20.6    40.3    875.8
    17.6    10.1    890.2
    56.3    20.8    710.4
    1112.2  392.2   907.4
    806.3   1035.8  1285.4
    514.5   434.8   908.5
    25.1    5.5     490.1
    10.4    40.2    450.8
    40.7    5.8     1175.1
    5.2     15.1    1085.3
    30.3    25.6    485.5
    25.6    40.5    395.8
    40.8    25.8    665.5
""")
# The first two cells of the second row are hidden behind "=SUMPRODUCT(B3:C4,$G$5:$H$6)".
CASE_5 = table("""
    219.2  23.9   147.2
    =      =      349.5
    92.6   16.1   195.4
    139.6  20.4   377.7
    121.9  9.9    417.5
    223.8  13.6   341.4
    620.4  268.2  443.6
    486.1  731.2  736
    528.9  438.2  682.4
    284.9  128    335.5
    8.5    22.3   214.4
    24.1   10.4   505.5
    12.4   14.8   507
    15.8   14.9   264.6
    17.8   26     196.1
    27.5   21.4   300.2
""")


def test_case_1_one_weight(convolve: Any) -> None:
    found = convolve(FOUR_OF_CASE_1, 3)
    assert_printed(found, CASE_1)
    # Flattened column by column, as the article prints it: its beginning, with the hidden cell, and its end.
    np.testing.assert_array_equal(found.T.ravel()[:5], [75, 669, 588, 747, 180])
    np.testing.assert_array_equal(found.T.ravel()[-4:], [141, 378, 363, 711])


def test_case_2_two_neighbours(convolve: Any) -> None:
    assert_printed(convolve(FOUR, [1, 0.3]), CASE_2)


def test_case_3_zeros_along_the_sides(convolve: Any) -> None:
    found = convolve(FOUR, [1, 0.3], padding=(0, 1))
    assert_printed(found, CASE_3)
    np.testing.assert_allclose(found[0], [25.8, 87.2, 6.4, 63.2, 184], rtol=1e-6)  # the hidden row


def test_case_4_other_weights(convolve: Any) -> None:
    assert_printed(convolve(FOUR, [0.1, 5]), CASE_4)


def test_case_4_both_filters_in_one_call(dtype: str) -> None:
    """ "What we did was simply use multiple weights rather than just one"."""
    filters = np.array([[1, 0.3], [0.1, 5]], dtype).reshape(2, 1, 1, 2)
    both = F.conv2d(FOUR[None].astype(dtype), filters)
    assert_printed(both[0], CASE_2)
    assert_printed(both[1], CASE_4)


def test_case_5_both_directions(convolve: Any) -> None:
    found = convolve(FOUR, [[1, 0.3], [0.5, 2]])
    assert_printed(found, CASE_5)
    # Computed: 252 + 0.3 * 3 + 0.5 * 34 + 2 * 7, and 3 + 0.3 * 8 + 0.5 * 7 + 2 * 7.
    np.testing.assert_allclose(found[1, :2], [283.9, 22.9], rtol=1e-6)


# The article, section 3: a 6 x 6 image and a kernel in the shape of an X.

IMAGE = table("""
    18  54  51  239 244 188
    55  121 75  78  95  88
    35  24  204 113 109 221
    3   154 104 235 25  130
    15  253 225 159 78  233
    68  85  180 214 245 0
""")
CROSS = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
# The figure of the convolution is cut off after 429 505 686 856 / 261 792; the pooling example repeats all of it.
CONVOLVED = table("""
    429 505 686 856
    261 792 412 640
    633 653 851 751
    608 913 713 657
""")


def test_convolution_of_the_6_x_6_image(convolve: Any) -> None:
    np.testing.assert_array_equal(convolve(IMAGE, CROSS), CONVOLVED)


def test_stride_2(convolve: Any) -> None:
    """The figure shows 5 x 5 of the image and is cut off after 429 686 / 633; the fourth value is computed."""
    expected = [[429, 686], [633, 851]]
    np.testing.assert_array_equal(convolve(IMAGE[:5, :5], CROSS, stride=2), expected)
    np.testing.assert_array_equal(convolve(IMAGE, CROSS, stride=2), expected)


def test_same_padding(convolve: Any) -> None:
    """The figure is cut off after 139 184 250 409.

    One print draws two columns of zeros at the right, the other one; the text says the output has the size of the
    input, which is one on every side. Its sentence in brackets ("we considered only the valid pixels") describes
    the opposite, valid padding. "The middle 4*4 pixels would be the same" holds.
    """
    found = convolve(IMAGE, CROSS, padding="same")
    assert found.shape == IMAGE.shape
    np.testing.assert_array_equal(found[0], [139, 184, 250, 409, 410, 283])  # the last two computed
    np.testing.assert_array_equal(found[1:-1, 1:-1], CONVOLVED)
    np.testing.assert_array_equal(found, convolve(IMAGE, CROSS, padding=1))
    # The border by hand: x in the middle plus the corners that exist.
    np.testing.assert_array_equal(
        found[-1], [68 + 253, 85 + 15 + 225, 180 + 253 + 159, 214 + 225 + 78, 245 + 159 + 233, 78]
    )


def test_max_pooling(dtype: str) -> None:
    found = F.max_pool2d(CONVOLVED[None].astype(dtype), 2)[0]
    np.testing.assert_array_equal(found, [[792, 856], [913, 851]])
    last = F.max_pool2d(CONVOLVED[..., None].astype(dtype), 2, 2, data_format="channels_last")[..., 0]
    np.testing.assert_array_equal(last, found)


def test_average_pooling(dtype: str) -> None:
    """ "Similarly other forms of pooling can also be applied like average pooling": computed."""
    found = F.avg_pool2d(CONVOLVED[None].astype(dtype), 2)[0]
    np.testing.assert_allclose(found, [[496.75, 648.5], [701.75, 743]], rtol=1e-6)


# The notes.


def test_vertical_edges(convolve: Any) -> None:
    image = table("""
        7 2 3 3 8
        4 5 3 8 4
        3 3 2 8 4
        2 8 7 2 7
        5 4 4 5 4
    """)
    found = convolve(image, [[1, 0, -1]] * 3)
    assert found[0, 0] == 6
    # The notes give no more; each is the sum of a column of three minus that of the column two further right.
    sums = np.array([image[i : i + 3].sum(axis=0) for i in range(3)])
    np.testing.assert_array_equal(found, sums[:, :-2] - sums[:, 2:])


def test_convolved_feature(convolve: Any) -> None:
    """Example 3. The second figure garbles row 4 of the image as 0 0 1 3 1; the first has 0 0 1 1 0.

    The notes stop after 4 and 3; the other values are computed.
    """
    image = table("""
        1 1 1 0 0
        0 1 1 1 0
        0 0 1 1 1
        0 0 1 1 0
        0 1 1 0 0
    """)
    np.testing.assert_array_equal(convolve(image, CROSS), [[4, 3, 4], [2, 4, 3], [2, 3, 4]])


def test_single_channel_convolution(convolve: Any) -> None:
    """The print mixes the kernel into the image as subscripts; digits from its source, Dumoulin and Visin,
    "A guide to convolution arithmetic for deep learning" (2016), figure 1.1."""
    image = table("""
        3 3 2 1 0
        0 0 1 3 1
        3 1 2 2 3
        2 0 0 2 2
        2 0 0 0 1
    """)
    kernel = [[0, 1, 2], [2, 2, 0], [0, 1, 2]]
    np.testing.assert_array_equal(convolve(image, kernel), [[12, 12, 17], [10, 17, 19], [9, 6, 14]])


SHARPEN = [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
PHOTOGRAPH = table("""
    60  113 56  139 85
    73  121 54  84  128
    131 99  70  129 127
    80  57  115 69  134
    104 126 123 95  130
""")


def test_sharpening_with_and_without_padding(convolve: Any) -> None:
    """The notes print the padded image and the kernel; the results are computed."""
    found = convolve(PHOTOGRAPH, SHARPEN, padding=1)
    padded = np.pad(PHOTOGRAPH, 1)
    neighbours = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    np.testing.assert_array_equal(found, 5 * PHOTOGRAPH - neighbours)
    assert found[0, 0] == 5 * 60 - 113 - 73
    np.testing.assert_array_equal(convolve(PHOTOGRAPH, SHARPEN), found[1:-1, 1:-1])


def test_sharpening_and_blurring_keep_even_areas(convolve: Any) -> None:
    even = np.full((6, 7), 9.0)
    np.testing.assert_array_equal(convolve(even, SHARPEN), even[1:-1, 1:-1])
    blurred = convolve(PHOTOGRAPH, np.full((3, 3), 1 / 9))
    np.testing.assert_allclose(blurred[0, 0], PHOTOGRAPH[:3, :3].mean(), rtol=1e-6)
    assert np.ptp(blurred) < np.ptp(PHOTOGRAPH)
    np.testing.assert_allclose(convolve(even, np.full((3, 3), 1 / 9)), even[1:-1, 1:-1], rtol=1e-6)


def test_edges(convolve: Any) -> None:
    """ "If the neighboring pixels have same value, the output pixel will be zero", else different at the boundary."""
    kernel = [[1, 1, 1], [1, -8, 1], [1, 1, 1]]
    even = np.full((5, 6), 7.0)
    np.testing.assert_array_equal(convolve(even, kernel), np.zeros((3, 4)))
    step = np.hstack([np.full((5, 3), 1.0), np.full((5, 3), 5.0)])
    # Beside the step three of the eight neighbours differ by 4.
    np.testing.assert_array_equal(convolve(step, kernel), [[0, 12, -12, 0]] * 3)


def test_cross_correlation_and_convolution(convolve: Any) -> None:
    """ "Convolution means to flip the filter first": both differ by that alone."""
    signal, kernel = np.array([[3.0, 1, 4, 1, 5, 9]]), np.array([[2.0, 7, 1]])
    np.testing.assert_array_equal(convolve(signal, kernel), [np.correlate(signal[0], kernel[0])])
    np.testing.assert_array_equal(convolve(signal, kernel[:, ::-1]), [np.convolve(signal[0], kernel[0], "valid")])


@pytest.mark.parametrize("choice", [0, 1])
def test_mixed_pooling(choice: int, dtype: str) -> None:
    """``s = lambda * max + (1 - lambda) * mean``: lambda 0 is average pooling, 1 is max pooling."""
    x = CONVOLVED[None].astype(dtype)
    mixed = choice * F.max_pool2d(x, 2) + (1 - choice) * F.avg_pool2d(x, 2)
    np.testing.assert_array_equal(mixed, (F.avg_pool2d, F.max_pool2d)[choice](x, 2))


def test_convolution_over_a_volume(dtype: str) -> None:
    """A 6 x 6 x 3 image and a 3 x 3 x 3 filter: one number for each place, summed over the three channels."""
    rng = np.random.default_rng(0)
    image, kernel = (rng.integers(0, 9, shape).astype(dtype) for shape in ((6, 6, 3), (3, 3, 3)))
    found = F.conv2d(image, kernel[..., None], data_format="channels_last", weight_format="HWIO")
    separate = sum(
        F.conv2d(image[None, ..., c], kernel[None, None, ..., c])[0] for c in range(3)
    )  # small integers: exact in any order
    np.testing.assert_array_equal(found[..., 0], separate)


def test_1_x_1_convolution_mixes_channels(dtype: str) -> None:
    rng = np.random.default_rng(0)
    image, kernels = rng.integers(0, 9, (5, 4, 6)).astype(dtype), rng.integers(0, 9, (1, 1, 6, 8)).astype(dtype)
    found = F.conv2d(image, kernels, data_format="channels_last", weight_format="HWIO")
    np.testing.assert_array_equal(found, image @ kernels[0, 0])


def test_a_filter_less_deep_than_its_input_moves_in_three_directions() -> None:
    """3D convolution: "the output is then a 3D data"."""
    p = conv_problem(N=1, C=1, K=1, size=(5, 6, 6), kernel=(3, 3, 3), rank=3)
    (y,) = plan_for("conv_forward", p).run(np.ones(p.x_shape, np.float32), np.ones(p.w_shape, np.float32), None)
    np.testing.assert_array_equal(y, np.full((1, 3, 4, 4, 1), 27))


def test_an_output_depends_on_9_of_36_inputs() -> None:
    """Sparsity of connections, seen by the gradient of one output of a 3 x 3 convolution."""
    x = Tensor(np.zeros((1, 6, 6)), requires_grad=True)
    F.conv2d(x, np.ones((1, 1, 3, 3)))[0, 1, 2].backward()
    expected = np.zeros((6, 6))
    expected[1:4, 2:5] = 1
    np.testing.assert_array_equal(x.grad.data[0], expected)


def test_a_shifted_picture_has_shifted_features(convolve: Any) -> None:
    """Translation invariance: "a picture of a car shifted a couple pixels to the right is still a car"."""
    wide = np.zeros((6, 12))
    wide[:, 2:8] = IMAGE
    np.testing.assert_array_equal(convolve(np.roll(wide, 2, axis=1), CROSS), np.roll(convolve(wide, CROSS), 2, axis=1))


# Output sizes, ``(W - F + 2P) / S + 1``.

SIZES = [
    # The article: 32 x 32 x 3 with ten 5 x 5 filters, then with ten 3 x 3 filters.
    ((32, 32, 3), 10, 5, {}, (28, 28, 10)),
    ((32, 32, 3), 10, 3, {}, (30, 30, 10)),
    # The article's network for cats and dogs. (Its code ends in a dense layer of 2 units; its summary shows 1.)
    ((300, 300, 3), 10, 5, {}, (296, 296, 10)),
    # The notes, "Simple Convolutional Network Example"; the steps to 7 x 7 x 40 are in a figure that is lost, and
    # two 5 x 5 layers of stride 2 lead there.
    ((39, 39, 3), 10, 3, {}, (37, 37, 10)),
    ((37, 37, 10), 20, 5, {"stride": 2}, (17, 17, 20)),
    ((17, 17, 20), 40, 5, {"stride": 2}, (7, 7, 40)),
    # The notes, "Why convolutions?".
    ((32, 32, 3), 6, 5, {}, (28, 28, 6)),
    # The notes, "A Convolution Layer": two 4 x 4 kernels.
    ((6, 6, 3), 2, 4, {}, (3, 3, 2)),
    # The notes, "Convolution over volumes" and "Need for padding": n - f + 1, n + 2p - f + 1.
    ((6, 6, 3), 1, 3, {}, (4, 4, 1)),
    ((5, 5, 1), 1, 3, {"padding": 1}, (5, 5, 1)),
    # The notes, VGG16: every convolution keeps the size.
    ((224, 224, 3), 64, 3, {"padding": "same"}, (224, 224, 64)),
]


@pytest.mark.parametrize(("image", "filters", "size", "settings", "expected"), SIZES, ids=str)
def test_output_sizes(
    image: tuple[int, ...], filters: int, size: int, settings: dict[str, Any], expected: tuple[int, ...]
) -> None:
    x, w = np.zeros(image, np.float32), np.zeros((size, size, image[-1], filters), np.float32)
    assert F.conv2d(x, w, data_format="channels_last", weight_format="HWIO", **settings).shape == expected


@pytest.mark.parametrize("f", [1, 3, 5, 7])
def test_the_padding_that_keeps_the_size(f: int) -> None:
    """The notes: ``p = (f - 1) / 2``."""
    assert same_padding(9, f) == ((f - 1) // 2, (f - 1) // 2)
    assert F.conv2d(np.zeros((1, 9, 9)), np.zeros((1, 1, f, f)), padding=(f - 1) // 2).shape == (1, 9, 9)


def test_pooling_halves() -> None:
    """The article's 296 x 296 x 10 becomes 148 x 148 x 10, flattened 219,040; VGG16 goes from 224 to 7."""
    pooled = F.max_pool2d(np.zeros((296, 296, 10), np.float32), 2, data_format="channels_last")
    assert pooled.shape == (148, 148, 10)
    assert pooled.size == 219_040
    side = np.zeros((1, 224, 224), np.float32)
    for expected in (112, 56, 28, 14, 7):
        side = F.max_pool2d(side, 2, 2)
        assert side.shape == (1, expected, expected)


def test_parameters_of_the_blogathon_network() -> None:
    """The Blogathon article counts 813,217 parameters. Its code, whose last layer has 128 units, has 829,600; the
    printed number belongs to a last layer of one unit. The sizes are those that the operations give."""
    x = np.zeros((64, 64, 3), np.float32)
    last = {"data_format": "channels_last"}
    weights = 0
    for channels in (3, 32):
        w = np.zeros((3, 3, channels, 32), np.float32)
        weights += w.size + 32
        x = F.max_pool2d(F.conv2d(x, w, weight_format="HWIO", **last), 2, 2, **last)
    weights += x.size * 128 + 128
    assert weights + 128 * 1 + 1 == 813_217
    assert weights + 128 * 128 + 128 == 829_600
