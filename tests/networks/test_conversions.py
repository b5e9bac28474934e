import torch
import torch.nn.functional as F
from monai.networks.blocks import PatchEmbeddingBlock

from medcontext.networks.conversions import Grid, converted


def test_a_perceptron_turned_convolution_gives_equal_tokens() -> None:
    """Also where the patch has no two edges alike, and with two channels."""
    patch = (4, 2, 8)
    block = PatchEmbeddingBlock(2, (8, 8, 16), patch, 12, 3, proj_type="perceptron", pos_embed_type="none")
    linear = block.patch_embeddings[1]
    weight, how = converted(linear.weight, torch.zeros(12, 2, *patch)) or (linear.weight, "")
    image = torch.rand(3, 2, 8, 8, 16)
    tokens = F.conv3d(image, weight, linear.bias, stride=patch).flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens, block(image))
    assert how == "perceptron to convolution"


def test_the_answer_to_equal_channels_stays() -> None:
    one, image = torch.rand(5, 1, 3, 3, 3), torch.rand(2, 1, 6, 6, 6)
    four, how = converted(one, torch.zeros(5, 4, 3, 3, 3), channels=4) or (one, "")
    torch.testing.assert_close(F.conv3d(image.repeat(1, 4, 1, 1, 1), four), F.conv3d(image, one))
    assert "divided by 4" in how


def test_a_perceptron_of_one_channel_is_turned_and_repeated() -> None:
    weight, how = converted(torch.rand(5, 8), torch.zeros(5, 3, 2, 2, 2), channels=3) or (torch.zeros(0), "")
    assert weight.shape == (5, 3, 2, 2, 2)
    assert how == "perceptron to convolution; 1 channel repeated to 3, divided by 3"


def test_other_channels_or_sizes_do_not_fit() -> None:
    assert converted(torch.zeros(5, 1, 3, 3, 3), torch.zeros(5, 8, 3, 3, 3), channels=4) is None, "not of the image"
    assert converted(torch.zeros(5, 1, 3, 3, 3), torch.zeros(5, 4, 3, 3, 3)) is None, "not asked for"
    assert converted(torch.zeros(5, 2, 3, 3, 3), torch.zeros(5, 4, 3, 3, 3), channels=4) is None
    assert converted(torch.zeros(5, 9), torch.zeros(5, 1, 2, 2, 2), channels=1) is None
    assert converted(torch.zeros(3), torch.zeros(4)) is None


def test_positions_are_interpolated_along_their_own_axes() -> None:
    h, w, d = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), torch.arange(4.0), indexing="ij")
    there = torch.stack((h, w, d), -1).reshape(1, 64, 3)
    here, how = converted(there, torch.zeros(1, 16, 3), grid=Grid((4, 2, 2))) or (there, "")
    volume = here.reshape(4, 2, 2, 3)
    assert torch.equal(volume[:, 0, 0, 0], torch.arange(4.0)), "as many as before"
    assert torch.equal(volume[0, :, 0, 1], torch.tensor([0.5, 2.5]))
    assert torch.equal(volume[0, 0, :, 2], torch.tensor([0.5, 2.5]))
    assert how == "positions interpolated from 4 x 4 x 4 to 4 x 2 x 2"


def test_a_grid_that_is_known_counts_also_where_there_are_as_many() -> None:
    there, grid = torch.arange(4.0).reshape(1, 4, 1), Grid((1, 2, 2))
    same, how = converted(there, torch.zeros(1, 4, 1), grid=grid, before=(1, 2, 2)) or (there, "")
    assert torch.equal(same, there)
    assert how == ""
    other, how = converted(there, torch.zeros(1, 4, 1), grid=grid, before=(2, 2, 1)) or (there, "")
    assert other.flatten().tolist() == [1, 1, 2, 2], "the mean along the first axis, the same along the last"
    assert how == "positions interpolated from 2 x 2 x 1 to 1 x 2 x 2"


def test_positions_of_an_unknown_grid_do_not_fit() -> None:
    assert converted(torch.zeros(1, 12, 3), torch.zeros(1, 8, 3), grid=Grid((2, 2, 2))) is None


def test_the_offset_of_nothing_stays_in_the_middle() -> None:
    there = torch.zeros(27, 2)
    there[13] = 1
    here, how = converted(there, torch.zeros(125, 2), grid=Grid((5, 5, 5), offsets=True)) or (there, "")
    assert here[62].tolist() == [1, 1]
    assert here.argmax(0).tolist() == [62, 62]
    assert how == "positions interpolated from 3 x 3 x 3 to 5 x 5 x 5"
