"""MedContext in MONAI's SupervisedTrainer, with its handlers and metrics; the teacher is what is validated.

python examples/monai_engine.py [--steps 200]"""

import argparse

import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import MeanDice, StatsHandler, ValidationHandler, from_engine
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import AsDiscreted, Compose
from own_loop import make_batch

from medcontext import MedContext, TubeMask
from medcontext.integrations.monai import MedContextUpdate


def cases(number: int, seed: int) -> Dataset:
    """Put your data set here."""
    image, label = make_batch(torch.Generator().manual_seed(seed))
    return Dataset([{"image": image[index % 2], "label": label[index % 2]} for index in range(number)])


def show(engine: SupervisedTrainer) -> None:
    print(f"step {engine.state.iteration}  loss {engine.state.output[0]['loss']:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    torch.manual_seed(0)
    network = UNet(3, in_channels=1, out_channels=3, channels=(8, 16, 32), strides=(2, 2))
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    learner = MedContext(network, mask=TubeMask(8), supervised=loss, total_steps=steps)
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(cases(2, seed=1), batch_size=1),
        network=learner.teacher.network,
        postprocessing=Compose([AsDiscreted("pred", argmax=True, to_onehot=3), AsDiscreted("label", to_onehot=3)]),
        key_val_metric={"dice": MeanDice(include_background=False, output_transform=from_engine(["pred", "label"]))},
    )
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=DataLoader(cases(2 * steps, seed=0), batch_size=2),
        network=learner.network,
        loss_function=learner.supervised,
        optimizer=torch.optim.AdamW(learner.trainable_parameters(), lr=5e-3),
        iteration_update=MedContextUpdate(learner),
        train_handlers=[StatsHandler(iteration_print_logger=show), ValidationHandler(1, evaluator)],
    )
    trainer.run()
    print(f"the teacher's Dice {evaluator.state.metrics['dice']:.3f}")


if __name__ == "__main__":
    main()
